//! The stock module `docker`, with a program in docker's place that keeps its images and containers in files.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::path::PathBuf;

use ambidex_install::Reboot;
use support::read;
use support::stock::{Stock, content, cut_everywhere, give_up};

/// `images/NAME` holds the id behind a name (`:` as `%`), `ids/ID` an image, `running/PROJECT` the compose file and
/// the ids that the containers were made of. Takes what the module uses of docker's command line and nothing else.
/// An image archive is a line `NAME ID`. A project whose compose file has the word `sick` does not become healthy.
const DOCKER: &str = r##"
world=@WORLD@
die() { echo "fake docker: $*" >&2; exit 1; }
id_of() { cat "$world/images/$(echo "$1" | sed 's|:|%|')" 2>/dev/null; }
images_in() { sed -n 's/^ *image: *//p' "$1"; }
echo "$*" >> "$world/calls"
case "$*" in
    "compose version") ;;
    "load --input "*)
        read -r name id < "$3" || die "not an archive"
        : > "$world/ids/$id"; echo "$id" > "$world/images/$(echo "$name" | sed 's|:|%|')";;
    "image inspect --format {{.Id}} "*) id_of "$5" || die "no image $5";;
    "tag "*) [ -e "$world/ids/$2" ] || die "no image $2"; echo "$2" > "$world/images/$(echo "$3" | sed 's|:|%|')";;
    "image rm "*)
        ! grep -q "$3" "$world"/running/* 2>/dev/null || die "$3 is used"
        rm "$world/ids/$3";;
    "compose --project-name "*)
        project="$3"; dir="$5"; file="$7"; [ "$4" = --project-directory ] && [ "$6" = --file ] || die "options"
        [ -f "$file" ] || die "no file $file"
        shift 7
        case "$*" in
            "config --quiet") grep -q '^services:' "$file" || die "services must be a mapping";;
            "config --images") images_in "$file";;
            "up --detach --remove-orphans"*)
                for name in $(images_in "$file"); do id_of "$name" > /dev/null || die "no image $name"; done
                cp "$file" "$world/running/$project"
                [ ! -f "$dir/.env" ] || cat "$dir/.env" >> "$world/running/$project"
                for name in $(images_in "$file"); do echo "# $(id_of "$name")" >> "$world/running/$project"; done
                case "$*" in
                    *"--wait --wait-timeout "*) ! grep -q sick "$file" || die "unhealthy";;
                esac;;
            "down --remove-orphans") rm -f "$world/running/$project";;
            *) die "compose $*";;
        esac;;
    *) die "$*";;
esac
"##;

/// A device with a docker that has nothing on it.
struct Lab {
    stock: Stock,
}

impl Lab {
    fn new() -> Self {
        let stock = Stock::new("docker");
        let (world, projects) = (stock.device.path("world"), stock.device.path("projects"));
        for dir in ["images", "ids", "running"] {
            std::fs::create_dir_all(world.join(dir)).unwrap();
        }
        let text = DOCKER.replace("@WORLD@", world.to_str().unwrap());
        stock.program("docker", &format!("{}{text}", stock.may_cut()));
        Self {
            stock: stock.env("AMBIDEX_COMPOSE_PROJECTS", projects),
        }
    }

    fn world(&self) -> PathBuf {
        self.stock.device.path("world")
    }

    fn running(&self, project: &str) -> String {
        std::fs::read_to_string(self.world().join("running").join(project)).unwrap_or_default()
    }

    /// Containers, names of images and projects: all that a rollback must bring back.
    fn system(&self) -> [std::collections::BTreeMap<String, String>; 2] {
        let mut world = content(&self.world(), &["calls", "ids"]);
        // a name that was loaded for the new project only does no harm
        world.remove("images/extra%1");
        [world, content(&self.stock.device.path("projects"), &[])]
    }

    async fn install(&self, files: &[(&str, &[u8])]) {
        let handler = self.stock.fetch(files).await;
        let done = handler.install().await;
        assert!(done.is_ok(), "{}", self.stock.log());
        assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
        handler.commit().await.unwrap();
        handler.cleanup().await.unwrap();
    }
}

const COMPOSE_1: &[u8] = b"services:\n  web:\n    image: web:latest\n";
const COMPOSE_2: &[u8] =
    b"services:\n  web:\n    image: web:latest\n  extra:\n    image: extra:1\n";
const FIRST: [(&str, &[u8]); 4] = [
    ("project", b"shop"),
    ("compose.yaml", COMPOSE_1),
    ("env", b"A=1\n"),
    ("web.tar", b"web:latest id-1\n"),
];
/// The same name for another image, and a service more.
const SECOND: [(&str, &[u8]); 4] = [
    ("project", b"shop\n"),
    ("compose.yaml", COMPOSE_2),
    ("web.tar", b"web:latest id-2\n"),
    ("extra.tar.gz", b"extra:1 id-3\n"),
];

#[tokio::test]
async fn a_project_is_replaced_and_comes_back_with_its_images() {
    let lab = Lab::new();
    lab.install(&FIRST).await;
    assert!(
        lab.running("shop").ends_with("A=1\n# id-1\n"),
        "{}",
        lab.running("shop")
    );
    let before = lab.system();
    let handler = lab.stock.fetch(&SECOND).await;
    handler.rollback().await.unwrap(); // before anything was done
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert!(
        lab.running("shop").ends_with("# id-2\n# id-3\n"),
        "{}",
        lab.running("shop")
    );
    let calls = read(&lab.world().join("calls"));
    assert!(calls.contains("--wait --wait-timeout 120"), "{calls}");
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.system(), before);

    lab.install(&SECOND).await;
    assert!(lab.running("shop").ends_with("# id-2\n# id-3\n"));
    let ids = content(&lab.world().join("ids"), &[]);
    assert_eq!(
        Vec::from_iter(ids.keys()),
        ["id-2", "id-3"],
        "images that are not used any more"
    );
    let projects = content(&lab.stock.device.path("projects"), &[]);
    assert_eq!(
        Vec::from_iter(projects.keys()),
        ["shop", "shop/compose.yaml"]
    );
}

#[tokio::test]
async fn a_project_that_was_not_there_is_taken_down_again() {
    let lab = Lab::new();
    let handler = lab.stock.fetch(&FIRST).await;
    handler.install().await.unwrap();
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.running("shop"), "");
    assert_eq!(content(&lab.stock.device.path("projects"), &[]).len(), 0);
}

#[tokio::test]
async fn containers_that_do_not_become_healthy_fail_the_update() {
    let lab = Lab::new();
    lab.install(&FIRST).await;
    let before = lab.system();
    let mut files = FIRST.to_vec();
    files[1] = (
        "compose.yaml",
        b"# sick\nservices:\n  web:\n    image: web:latest\n",
    );
    let handler = lab.stock.fetch(&files).await;
    assert!(handler.install().await.is_err());
    assert!(
        lab.stock.log().contains("did not start"),
        "{}",
        lab.stock.log()
    );
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.system(), before);
    // unless nobody waits
    files.push(("wait", b"0"));
    lab.install(&files).await;
}

#[tokio::test]
async fn payloads_that_cannot_be_installed_change_nothing() {
    let lab = Lab::new();
    lab.install(&FIRST).await;
    let before = lab.system();
    let payloads: [&[(&str, &[u8])]; 7] = [
        &[("compose.yaml", COMPOSE_1)],
        &[("project", b"shop")],
        &[("project", b"../shop"), ("compose.yaml", COMPOSE_1)],
        &[("project", b"shop"), ("compose.yaml", b"nothing")],
        &[
            ("project", b"shop"),
            ("compose.yaml", COMPOSE_1),
            ("wait", b"long"),
        ],
        &[
            ("project", b"shop"),
            ("compose.yaml", COMPOSE_1),
            ("notes.txt", b"?"),
        ],
        &[
            ("project", b"shop"),
            ("compose.yaml", COMPOSE_2),
            ("bad.tar", b""),
        ],
    ];
    for files in payloads {
        let handler = lab.stock.fetch(files).await;
        assert!(handler.install().await.is_err());
        give_up(&lab.stock, &handler).await;
        assert_eq!(lab.system(), before);
    }
}

#[tokio::test]
async fn a_power_cut_at_any_command_leaves_the_old_or_the_new_project() {
    let lab = Lab::new();
    lab.install(&FIRST).await;
    let back = async |place: &str| {
        let running = lab.running("shop");
        assert!(running.ends_with("# id-2\n# id-3\n"), "{place}");
        lab.install(&FIRST).await;
    };
    cut_everywhere(&lab.stock, &SECOND, || lab.system(), back).await;
}

#[tokio::test]
async fn busybox_runs_it() {
    let lab = Lab::new();
    let Some(stock) = lab.stock.with_busybox() else {
        return;
    };
    let lab = Lab { stock };
    lab.install(&FIRST).await;
    let before = lab.system();
    let handler = lab.stock.fetch(&SECOND).await;
    handler.install().await.unwrap();
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.system(), before);
}

#[tokio::test]
async fn a_device_without_docker_says_so() {
    let lab = Lab::new();
    lab.stock
        .program("docker", "#!/bin/sh\necho 'unknown command' >&2; exit 1\n");
    let handler = lab.stock.fetch(&FIRST).await;
    assert!(handler.install().await.is_err());
    assert!(
        lab.stock.log().contains("docker has no plugin compose"),
        "{}",
        lab.stock.log()
    );
}
