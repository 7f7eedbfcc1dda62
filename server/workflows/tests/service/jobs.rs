//! B140 to B144: starting jobs and their documents.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::rig::Rig;

fn ask() -> Value {
    json!([{"name": "ask", "type": "http", "retries": 2, "retryDelaySeconds": 1, "http": {
        "uri": "http://mender-inventory:8080/greet?who=${encoding=url;workflow.input.who}",
        "method": "POST", "contentType": "application/json",
        "json": {"who": "${workflow.input.who}", "more": "${workflow.input.more}"},
        "headers": {"X-MEN-RequestID": "${workflow.input.request_id}", "Authorization": "Bearer t0ken"},
        "connectionTimeOut": 8000, "readTimeOut": 8000}}])
}

#[tokio::test]
async fn objects_and_lists_start_a_job() {
    let rig = Rig::new();
    rig.register("greet", ask(), &["who"]).await;
    rig.neighbours
        .answer(|_| Ok((200, r#"{"hello":"you"}"#.to_owned())));
    let object = json!({"who": "a b", "more": [1, "x"], "flag": true, "request_id": "r1"});
    let id = rig.start("greet", &object).await;
    let path = format!("/api/v1/workflow/greet/{id}");
    let pending = rig.get(&path).await.ok(200).json();
    assert_eq!(pending["status"], "pending");
    assert_eq!(pending["results"], json!([]));
    rig.run_all().await;
    let done = rig.get(&path).await.ok(200).json();
    assert_eq!(rig.get(&format!("/api/v1/jobs/{id}")).await.json(), done);
    assert_eq!(done["status"], "done");
    assert_eq!(done["workflowName"], "greet");
    assert_eq!(done["version"], "1");
    assert_eq!(done["insert_time"], "2023-11-14T22:13:20Z");
    for (name, value) in [("who", "a b"), ("more", "1,x"), ("flag", "true")] {
        let parameter = json!({"name": name, "value": value});
        assert!(
            done["inputParameters"]
                .as_array()
                .unwrap()
                .contains(&parameter),
            "{done}"
        );
    }
    let result = &done["results"][0];
    assert_eq!(
        (
            &result["name"],
            &result["type"],
            &result["success"],
            &result["skipped"]
        ),
        (&json!("ask"), &json!("http"), &json!(true), &json!(false))
    );
    let answer = json!({"statusCode": 200, "body": "{\"hello\":\"you\"}"});
    assert_eq!(
        (&result["request"], &result["httpResponse"]),
        (&answer, &answer)
    );
    let sent = &result["httpRequest"];
    assert_eq!(&result["response"], sent);
    assert_eq!(sent["uri"], "http://mender-inventory:8080/greet?who=a%20b");
    assert_eq!(sent["method"], "POST");
    assert_eq!(sent["body"], r#"{"more":[1,"x"],"who":"a b"}"#);
    assert!(
        sent["headers"]
            .as_array()
            .unwrap()
            .contains(&json!("X-MEN-RequestID: r1"))
    );
    assert!(!done.to_string().contains("t0ken"), "secrets are not shown");
    let call = rig.neighbours.calls.lock().unwrap()[0].clone();
    assert_eq!(call.path, "/greet?who=a%20b");
    assert_eq!(call.headers["authorization"], "Bearer t0ken");
    assert_eq!(call.headers["x-men-requestid"], "r1");
    assert_eq!(call.headers["content-type"], "application/json");

    let list = json!([{"name": "who", "value": "x"}, {"name": "more", "value": ""}]);
    let done = rig.ran("greet", &list).await;
    assert_eq!(done["status"], "done");
    let body = rig.neighbours.calls.lock().unwrap()[1].json();
    assert_eq!(body, json!({"who": "x", "more": ""}));
}

#[tokio::test]
async fn wrong_requests_start_nothing() {
    let rig = Rig::new();
    rig.register("greet", ask(), &["who", "more", "x"]).await;
    let path = "/api/v1/workflow/greet";
    let error = rig.post(path, &json!({"more": 1})).await.error(400);
    assert_eq!(error, "Missing input parameters: [who,x]");
    for body in [
        json!("text"),
        json!(1),
        json!([1]),
        json!([{"value": "x"}]),
        json!([{"name": "who"}]),
        Value::Null,
    ] {
        let error = rig.post(path, &body).await.error(400);
        assert!(
            error.starts_with("Unable to parse the input parameters"),
            "{error}"
        );
    }
    let dummy = Request::post("/api/v1/workflow/none").body(Body::from("DUMMY"));
    let error = rig.send(dummy.unwrap()).await.error(400);
    assert!(
        error.starts_with("Unable to parse the input parameters"),
        "{error}"
    );
    rig.post("/api/v1/workflow/none", &json!({}))
        .await
        .error(404);
    rig.get("/api/v1/workflow/greet/000000000000000000000000")
        .await
        .error(404);
    rig.get("/api/v1/jobs/x").await.error(404);
    assert_eq!(rig.jobs.run_due().await.unwrap(), 0);
}

#[tokio::test]
async fn a_caller_can_demand_a_version() {
    let rig = Rig::new();
    rig.register("greet", ask(), &[]).await;
    for (version, wanted) in [("1", 201), ("0", 201), ("2", 404), ("x", 400)] {
        let request = Request::post("/api/v1/workflow/greet")
            .header("X-Workflows-Min-Version", version)
            .body(Body::from("{}"))
            .unwrap();
        assert_eq!(rig.send(request).await.status, wanted, "{version}");
    }
}

#[tokio::test]
async fn a_failing_step_is_retried_and_fails_the_job() {
    let rig = Rig::new();
    let mut tasks = ask();
    let second = json!({"name": "never", "type": "http",
        "http": {"uri": "http://mender-inventory/never", "method": "GET"}});
    tasks.as_array_mut().unwrap().push(second);
    rig.register("greet", tasks, &[]).await;
    rig.neighbours.always(500);
    let failed = rig.ran("greet", &json!({})).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(rig.neighbours.paths().len(), 3, "retries + 1 attempts");
    assert_eq!(failed["results"].as_array().unwrap().len(), 1);
    assert_eq!(failed["results"][0]["attempts"], 3);
    assert_eq!(failed["results"][0]["httpResponse"]["statusCode"], 500);
    // A connection that fails is a failed attempt like any other.
    rig.neighbours.answer(|_| Err("refused".to_owned()));
    let failed = rig.ran("greet", &json!({})).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["results"][0]["error"], "refused");
    assert_eq!(rig.neighbours.paths().len(), 6);
    let ended = rig.workflows.ended();
    assert_eq!(ended, [("greet".to_owned(), "failed", 2)]);
}

#[tokio::test]
async fn a_step_whose_requirement_is_empty_is_skipped() {
    let rig = Rig::new();
    let mut tasks = ask();
    tasks[0]["requires"] = json!(["${workflow.input.who}", "${env.HAVE_NOTHING}"]);
    rig.register("greet", tasks, &[]).await;
    let done = rig.ran("greet", &json!({"who": "x"})).await;
    assert_eq!(done["status"], "done");
    let result = &done["results"][0];
    assert_eq!(
        (&result["success"], &result["skipped"]),
        (&json!(true), &json!(true))
    );
    assert!(rig.neighbours.paths().is_empty());
}

#[tokio::test]
async fn jobs_of_ephemeral_workflows_are_recorded_when_they_fail() {
    let rig = Rig::new();
    let body = json!({"name": "brief", "version": 1, "ephemeral": true, "tasks": ask()});
    rig.post("/api/v1/metadata/workflows", &body).await.ok(201);
    let id = rig.start("brief", &json!({"who": "x"})).await;
    let path = format!("/api/v1/workflow/brief/{id}");
    rig.get(&path).await.error(404);
    rig.run_all().await;
    rig.get(&path).await.error(404);
    assert!(rig.workflows.recorded().await.unwrap().is_empty());
    rig.neighbours.always(400);
    let failed = rig.ran("brief", &json!({"who": "x"})).await;
    assert_eq!(failed["status"], "failed");
}

#[tokio::test]
async fn a_batch_starts_all_or_none() {
    let rig = Rig::new();
    rig.register("greet", ask(), &["who"]).await;
    let path = "/api/v1/workflow/greet/batch";
    let bad = json!([{"who": "a"}, {"other": "b"}]);
    rig.post(path, &bad).await.error(400);
    rig.post("/api/v1/workflow/none/batch", &json!([{}]))
        .await
        .error(404);
    rig.post(path, &json!({})).await.error(400);
    assert_eq!(rig.jobs.run_due().await.unwrap(), 0);
    let good = json!([{"who": "a"}, [{"name": "who", "value": "b"}]]);
    let started = rig.post(path, &good).await.ok(201).json();
    assert_eq!(started.as_array().unwrap().len(), 2);
    rig.run_all().await;
    for job in started.as_array().unwrap() {
        let id = job["id"].as_str().unwrap();
        let shown = rig.get(&format!("/api/v1/workflow/greet/{id}")).await;
        assert_eq!(shown.ok(200).json()["status"], "done");
    }
}

#[tokio::test]
async fn a_running_job_keeps_the_definition_it_began_with() {
    let rig = Rig::new();
    rig.register("greet", ask(), &[]).await;
    rig.neighbours.always(500);
    let id = rig.start("greet", &json!({})).await;
    rig.jobs.run_due().await.unwrap();
    let newer = json!({"name": "greet", "version": 2, "tasks": []});
    rig.post("/api/v1/metadata/workflows", &newer).await.ok(201);
    rig.run_all().await;
    assert_eq!(rig.neighbours.paths().len(), 3);
    let failed = rig
        .get(&format!("/api/v1/workflow/greet/{id}"))
        .await
        .json();
    assert_eq!(
        (&failed["status"], &failed["version"]),
        (&json!("failed"), &json!("1"))
    );
}
