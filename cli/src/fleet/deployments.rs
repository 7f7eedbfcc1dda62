//! `ambidex deployments`

use std::time::Duration;

use ambidex_wire::management::deployments::{
    Deployment, DeploymentDevice, DeploymentStatusChange, NewDeployment, Statistics,
};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::api::{Api, decode};
use super::connection::Connection;
use super::{table, watch};
use crate::OutputForm;
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    ambidex deployments create --artifact release-2 --device 5a8f0c9e-... --watch
    ambidex deployments create --artifact release-2 --group kitchen
    ambidex deployments create --artifact release-2 --all
    ambidex deployments watch 3c1f6a52-...
    ambidex deployments logs 3c1f6a52-... 5a8f0c9e-...")]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Deploy a release to devices.
    Create(Create),
    /// Show the deployments.
    List {
        /// Only those of this status: pending, inprogress, finished or scheduled.
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
    },
    /// Show a deployment and its devices.
    Show {
        /// Id of the deployment.
        id: String,
    },
    /// Follow a deployment to its end; exit code 4 when a device did not succeed.
    Watch {
        /// Id of the deployment.
        id: String,
        /// Give up after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Stop a deployment; devices that have not begun do not begin.
    Abort {
        /// Id of the deployment.
        id: String,
    },
    /// Show the log that a device sent after a failure.
    Logs {
        /// Id of the deployment.
        id: String,
        /// Id of the device; all that have a log unless given.
        device: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["devices", "to_group", "all"])))]
struct Create {
    /// Name of the release, which is the name of its artifacts.
    #[arg(long, value_name = "NAME")]
    artifact: String,
    /// Name of the deployment [default: the name of the release].
    #[arg(long)]
    name: Option<String>,
    /// Device to update; repeat for several.
    #[arg(long = "device", value_name = "ID")]
    devices: Vec<String>,
    /// Update the devices of this group.
    #[arg(long = "group", value_name = "GROUP")]
    to_group: Option<String>,
    /// Update all accepted devices.
    #[arg(long)]
    all: bool,
    /// How often a device tries again after a failure.
    #[arg(long)]
    retries: Option<u32>,
    /// Install even where it is installed already.
    #[arg(long)]
    force: bool,
    /// Follow the deployment to its end.
    #[arg(long)]
    watch: bool,
    /// Stop following after so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "watch")]
    timeout: Option<u64>,
}

const DEPLOYMENTS: [&str; 3] = ["v1", "deployments", "deployments"];

/// Path of a deployment or of something in it.
pub fn path<'a>(below: &[&'a str]) -> Vec<&'a str> {
    [&DEPLOYMENTS[..], below].concat()
}

impl Arguments {
    pub async fn run(self, form: OutputForm) -> Result<(), Failure> {
        let api = self.connection.api()?;
        match self.verb.unwrap_or(Verb::List { status: None }) {
            Verb::Create(create) => create.run(&api, form).await,
            Verb::List { status } => list(&api, status, form).await,
            Verb::Show { id } => show(&api, &id, form).await,
            Verb::Watch { id, timeout } => {
                watch::to_the_end(&api, &id, timeout.map(Duration::from_secs)).await
            }
            Verb::Abort { id } => {
                let change = DeploymentStatusChange {
                    status: "aborted".into(),
                };
                api.put(
                    &path(&[&id, "status"]),
                    &change,
                    &format!("cannot abort {id}"),
                )
                .await?;
                eprintln!("{id} aborted");
                Ok(())
            }
            Verb::Logs { id, device } => logs(&api, &id, device).await,
        }
    }
}

impl Create {
    async fn run(self, api: &Api, form: OutputForm) -> Result<(), Failure> {
        let name = self.name.unwrap_or_else(|| self.artifact.clone());
        let deployment = NewDeployment {
            name,
            artifact_name: self.artifact,
            devices: (!self.devices.is_empty()).then_some(self.devices),
            all_devices: self.all.then_some(true),
            retries: self.retries,
            force_installation: self.force.then_some(true),
            ..NewDeployment::default()
        };
        let to = match &self.to_group {
            Some(group) => path(&["group", group]),
            None => path(&[]),
        };
        let id = api
            .create(&to, &deployment, "cannot create the deployment")
            .await?;
        match form {
            OutputForm::Json => table::print_json(&serde_json::json!({ "id": id }))?,
            OutputForm::Table => table::emit(&format!("{id}\n"))?,
        }
        if self.watch {
            watch::to_the_end(api, &id, self.timeout.map(Duration::from_secs)).await
        } else {
            Ok(())
        }
    }
}

async fn list(api: &Api, status: Option<String>, form: OutputForm) -> Result<(), Failure> {
    let query: Vec<(&str, String)> = status
        .into_iter()
        .map(|status| ("status", status))
        .collect();
    let found = api
        .list(&DEPLOYMENTS, &query, "cannot list the deployments")
        .await?;
    if form == OutputForm::Json {
        return table::print_json(&Value::Array(found));
    }
    let mut rows = Vec::new();
    for value in &found {
        let deployment: Deployment = decode(value, "a deployment")?;
        rows.push(vec![
            deployment.id,
            deployment.status,
            deployment.created,
            table::plain(&deployment.artifact_name),
            table::plain(&deployment.name),
        ]);
    }
    table::print(&["ID", "STATUS", "CREATED", "RELEASE", "NAME"], &rows)
}

async fn devices(api: &Api, id: &str) -> Result<Vec<Value>, Failure> {
    match api
        .get(
            &path(&[id, "devices"]),
            &[],
            &format!("cannot list the devices of {id}"),
        )
        .await?
    {
        Value::Array(found) => Ok(found),
        _ => Err(anyhow::anyhow!("the devices of {id} are not a list").into()),
    }
}

async fn show(api: &Api, id: &str, form: OutputForm) -> Result<(), Failure> {
    let doing = format!("cannot show {id}");
    let value = api.get(&path(&[id]), &[], &doing).await?;
    let statistics = api.get(&path(&[id, "statistics"]), &[], &doing).await?;
    let found = devices(api, id).await?;
    if form == OutputForm::Json {
        return table::print_json(
            &serde_json::json!({ "deployment": value, "statistics": statistics, "devices": found }),
        );
    }
    let deployment: Deployment = decode(&value, "a deployment")?;
    let counts: Statistics = decode(&statistics, "a statistic")?;
    table::emit(&format!(
        "ID: {}\nName: {}\nRelease: {}\nStatus: {}\nCreated: {}\nFinished: {}\nDevices: {}\n\n",
        deployment.id,
        table::plain(&deployment.name),
        table::plain(&deployment.artifact_name),
        deployment.status,
        deployment.created,
        deployment.finished.as_deref().unwrap_or("not yet"),
        watch::summary(&counts),
    ))?;
    let mut rows = Vec::new();
    for value in &found {
        let device: DeploymentDevice = decode(value, "a device of the deployment")?;
        rows.push(vec![
            device.id,
            device.status.as_str().to_owned(),
            if device.log { "yes" } else { "no" }.into(),
            device.finished.unwrap_or_default(),
        ]);
    }
    table::print(&["DEVICE", "STATUS", "LOG", "FINISHED"], &rows)
}

async fn logs(api: &Api, id: &str, device: Option<String>) -> Result<(), Failure> {
    let wanted: Vec<String> = match device {
        Some(device) => vec![device],
        None => {
            let mut with_log = Vec::new();
            for value in &devices(api, id).await? {
                let device: DeploymentDevice = decode(value, "a device of the deployment")?;
                if device.log {
                    with_log.push(device.id);
                }
            }
            with_log
        }
    };
    if wanted.is_empty() {
        eprintln!("No device of {id} has sent a log; devices send one after a failure.");
    }
    for device in &wanted {
        let doing = format!("cannot show the log of {device}");
        let text = api
            .get_text(&path(&[id, "devices", device, "log"]), &doing)
            .await?;
        if wanted.len() > 1 {
            table::emit(&format!("=== {device}\n"))?;
        }
        // Line by line: the text of a device must not steer the terminal.
        for line in text.lines() {
            table::emit(&format!("{}\n", table::plain(line)))?;
        }
    }
    Ok(())
}
