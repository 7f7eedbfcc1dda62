//! Each sort of step.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use ambidex_workflows::Settings;
use serde_json::{Value, json};

use crate::rig::Rig;

fn http(http: Value) -> Value {
    json!([{"name": "t", "type": "http", "http": http}])
}

/// A server that answers one request and hands it over.
fn outside(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains("the-end") {
            let read = stream.read(&mut part).unwrap();
            if read == 0 {
                break;
            }
            seen.extend_from_slice(&part[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&seen).into_owned()
    });
    (port, thread)
}

#[tokio::test]
async fn other_hosts_are_asked_over_the_network() {
    let rig = Rig::new();
    let (port, server) = outside("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok");
    let task = http(json!({
        "uri": format!("http://127.0.0.1:{port}/x"), "method": "POST",
        "formdata": {"a b": "${workflow.input.v}", "z": "the-end"}, "statusCodes": [202],
    }));
    rig.register("out", task, &[]).await;
    let done = rig.ran("out", &json!({"v": "1&2"})).await;
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(done["results"][0]["httpResponse"]["body"], "ok");
    let seen = server.join().unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("post /x http/1.1"), "{seen}");
    assert!(
        seen.contains("content-type: application/x-www-form-urlencoded"),
        "{seen}"
    );
    assert!(seen.ends_with("a+b=1%262&z=the-end"), "{seen}");
    assert!(rig.neighbours.paths().is_empty());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let rig = Rig::new();
    let (port, server) = outside(
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
    );
    let task = http(json!({"uri": format!("http://127.0.0.1:{port}/the-end"), "method": "GET"}));
    rig.register("out", task, &[]).await;
    let done = rig.ran("out", &json!({})).await;
    server.join().unwrap();
    assert_eq!(done["results"][0]["httpResponse"]["statusCode"], 302);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_failure() {
    let rig = Rig::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let uri = format!("http://127.0.0.1:{port}/");
    let task = http(json!({"uri": uri, "method": "GET", "readTimeOut": 1}));
    rig.register("slow", task, &[]).await;
    let failed = rig.ran("slow", &json!({})).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["results"][0]["error"], "no answer within 1 s");
    drop(silent);
    let again = rig.ran("slow", &json!({})).await;
    let error = again["results"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn requests_that_cannot_be_sent_are_not_retried() {
    let rig = Rig::new();
    for (n, task) in [
        json!({"uri": "${workflow.input.uri}", "method": "GET"}),
        json!({"uri": "file:///etc/passwd", "method": "GET"}),
        json!({"uri": "http://mender-inventory/", "method": "GE T"}),
        json!({"uri": "http://mender-inventory/", "method": "GET", "headers": {"x": "${workflow.input.evil}"}}),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("bad{n}");
        let tasks = json!([{"name": "t", "type": "http", "retries": 5, "http": task}]);
        rig.register(&name, tasks, &[]).await;
        let failed = rig.ran(&name, &json!({"uri": "::", "evil": "a\r\nb: c"})).await;
        assert_eq!(failed["status"], "failed", "{failed}");
        assert_eq!(failed["results"][0]["attempts"], 1, "{failed}");
    }
    assert!(rig.neighbours.paths().is_empty());
}

fn script(rig_dir: &std::path::Path, text: &str) -> String {
    let path = rig_dir.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn cli(program: &str, timeout: i64) -> Value {
    json!([{"name": "run", "type": "cli", "retries": 1, "cli": {
        "command": [program, "${workflow.input.word}"], "executionTimeOut": timeout}}])
}

#[tokio::test]
async fn only_listed_programs_run() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(
        dir.path(),
        "echo \"{\\\"got\\\":\\\"$1\\\"}\"; echo oops >&2; exit $2",
    );
    let rig = Rig::new();
    rig.register("run", cli(&program, 5), &[]).await;
    let failed = rig.ran("run", &json!({"word": "w"})).await;
    assert_eq!(failed["status"], "failed");
    let error = failed["results"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("workflow_binaries"), "{error}");
    assert_eq!(
        failed["results"][0]["attempts"], 1,
        "it is refused for good"
    );

    let rig = Rig::with(Settings {
        binaries: vec![program.clone()],
        ..Settings::default()
    });
    let mut tasks = cli(&program, 5);
    let echo = json!({"name": "echo", "type": "http", "http": {
        "uri": "http://mender-inventory/", "method": "POST", "body": "${run.json.got}"}});
    tasks.as_array_mut().unwrap().push(echo);
    rig.register("run", tasks, &[]).await;
    let done = rig.ran("run", &json!({"word": "a; b"})).await;
    assert_eq!(done["status"], "done", "{done}");
    let result = &done["results"][0]["cli"];
    assert_eq!(result["command"], json!([program, "a; b"]));
    assert_eq!(result["output"], "{\"got\":\"a; b\"}\n");
    assert_eq!(
        (&result["error"], &result["exitCode"]),
        (&json!("oops\n"), &json!(0))
    );
    assert_eq!(rig.neighbours.calls.lock().unwrap()[0].body, "a; b");
}

#[tokio::test]
async fn a_program_that_takes_too_long_ends_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let text = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let program = script(dir.path(), &text);
    let rig = Rig::with(Settings {
        binaries: vec![program.clone()],
        ..Settings::default()
    });
    let mut tasks = cli(&program, 1);
    tasks[0]["retries"] = json!(0);
    rig.register("run", tasks, &[]).await;
    let started = Instant::now();
    let failed = rig.ran("run", &json!({})).await;
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["results"][0]["error"], "not finished within 1 s");
    assert_eq!(failed["results"][0]["cli"]["exitCode"], -1);
    let child = std::fs::read_to_string(&pid_file).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let alive = || {
        // A zombie waits for its parent only.
        std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "))
    };
    let limit = Instant::now() + Duration::from_secs(10);
    while alive() && Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!alive(), "the child of the program still runs");
}

#[tokio::test]
async fn a_program_that_fails_is_retried() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), "exit 3");
    let rig = Rig::with(Settings {
        binaries: vec![program.clone()],
        ..Settings::default()
    });
    rig.register("run", cli(&program, 5), &[]).await;
    let failed = rig.ran("run", &json!({})).await;
    assert_eq!(failed["results"][0]["cli"]["exitCode"], 3);
    assert_eq!(failed["results"][0]["attempts"], 2);
}

#[tokio::test]
async fn mails_are_sent() {
    let rig = Rig::new();
    let input = json!({
        "to": "a@example.com, b@example.com", "subject": "s ${env.PATH}", "body": "text",
    });
    rig.start("send_mail", &input).await;
    rig.run_all().await;
    let mail = rig.mailer.sent().pop().unwrap();
    assert_eq!(mail.to, ["a@example.com", "b@example.com"]);
    assert_eq!(mail.subject, "s ${env.PATH}", "inputs are not expanded");
    assert_eq!((mail.text.as_str(), mail.html), ("text", None));
    let failed = rig
        .ran("send_mail", &json!({"to": "", "subject": "s", "body": "b"}))
        .await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["results"][0]["attempts"], 1);
}

#[tokio::test]
async fn messages_need_a_nats_server() {
    let rig = Rig::new();
    let tasks = json!([{"name": "tell", "type": "nats", "retries": 3,
        "nats": {"subject": "a.${workflow.input.x}", "data": {"x": "${workflow.input.x}"}}}]);
    rig.register("tell", tasks, &[]).await;
    let failed = rig.ran("tell", &json!({"x": "y"})).await;
    let error = failed["results"][0]["nats"]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("--nats-url"), "{error}");
}

#[tokio::test]
async fn the_servers_own_settings_are_out_of_reach() {
    let rig = Rig::new();
    // Cargo sets this one for every test.
    let body = "${env.AMBIDEX_DATABASE_URL|none} ${env.HAVE_DEVICECONFIG} ${env.CARGO_PKG_NAME}";
    let task = http(json!({"uri": "http://mender-inventory/", "method": "POST", "body": body}));
    rig.register("env", task, &[]).await;
    rig.ran("env", &json!({})).await;
    let seen = rig.neighbours.calls.lock().unwrap()[0].body.clone();
    assert!(seen.starts_with("none 1 "), "{seen}");
}
