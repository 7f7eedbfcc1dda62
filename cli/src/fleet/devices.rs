//! `ambidex devices`

use ambidex_wire::management::devauth::{Device, Status};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{Api, decode};
use super::connection::Connection;
use super::table;
use crate::OutputForm;
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    ambidex devices list --status pending
    ambidex devices accept 5a8f0c9e-...
    ambidex devices accept --all-pending")]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the devices that have asked for admission.
    List {
        /// Only those of this status: pending, accepted, rejected, preauthorized or noauth.
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
    },
    /// Show all that is known of a device.
    Show {
        /// Id of the device.
        id: String,
    },
    /// Let devices in.
    Accept(Decision),
    /// Keep devices out.
    Reject(Decision),
    /// Remove a device and all that is known of it.
    Decommission {
        /// Id of the device.
        id: String,
    },
}

#[derive(Debug, Args)]
struct Decision {
    /// Ids of the devices.
    #[arg(required_unless_present = "all_pending")]
    ids: Vec<String>,
    /// All that wait for a decision.
    #[arg(long, conflicts_with = "ids")]
    all_pending: bool,
}

const DEVICES: [&str; 3] = ["v2", "devauth", "devices"];

impl Arguments {
    pub async fn run(self, form: OutputForm) -> Result<(), Failure> {
        let api = self.connection.api()?;
        match self.verb.unwrap_or(Verb::List { status: None }) {
            Verb::List { status } => list(&api, status, form).await,
            Verb::Show { id } => show(&api, &id, form).await,
            Verb::Accept(decision) => decision.carry_out(&api, "accepted").await,
            Verb::Reject(decision) => decision.carry_out(&api, "rejected").await,
            Verb::Decommission { id } => {
                api.delete(
                    &[&DEVICES[..], &[&id]].concat(),
                    &format!("cannot decommission {id}"),
                )
                .await?;
                eprintln!("{id} decommissioned");
                Ok(())
            }
        }
    }
}

async fn list(api: &Api, status: Option<String>, form: OutputForm) -> Result<(), Failure> {
    let query: Vec<(&str, String)> = status
        .into_iter()
        .map(|status| ("status", status))
        .collect();
    let found = api
        .list(&DEVICES, &query, "cannot list the devices")
        .await?;
    if form == OutputForm::Json {
        return table::print_json(&Value::Array(found));
    }
    let mut rows = Vec::new();
    for value in &found {
        let device: Device = decode(value, "a device")?;
        rows.push(vec![
            device.id.clone(),
            device.status.clone(),
            device
                .check_in_time
                .clone()
                .unwrap_or_else(|| "never".into()),
            identity(&device),
        ]);
    }
    table::print(&["ID", "STATUS", "LAST SEEN", "IDENTITY"], &rows)
}

/// `key=value` pairs.
fn identity(device: &Device) -> String {
    let pairs = device.identity_data.iter().map(|(key, value)| match value {
        Value::String(text) => format!("{key}={text}"),
        other => format!("{key}={other}"),
    });
    table::plain(&pairs.collect::<Vec<_>>().join(" "))
}

async fn show(api: &Api, id: &str, form: OutputForm) -> Result<(), Failure> {
    let doing = format!("cannot show {id}");
    let value = api
        .get(&[&DEVICES[..], &[id]].concat(), &[], &doing)
        .await?;
    let inventory = api
        .get(&["v1", "inventory", "devices", id], &[], &doing)
        .await;
    let attributes = inventory
        .ok()
        .and_then(|mut found| found.get_mut("attributes").map(Value::take))
        .unwrap_or(Value::Null);
    if form == OutputForm::Json {
        return table::print_json(
            &serde_json::json!({ "device": value, "attributes": attributes }),
        );
    }
    let device: Device = decode(&value, "a device")?;
    table::emit(&format!(
        "ID: {}\nStatus: {}\nIdentity: {}\nCreated: {}\nLast seen: {}\n\n",
        device.id,
        device.status,
        identity(&device),
        device.created_ts,
        device.check_in_time.as_deref().unwrap_or("never")
    ))?;
    let text = |value: &Value| match value {
        Value::String(text) => table::plain(text),
        other => table::plain(&other.to_string()),
    };
    let mut rows: Vec<Vec<String>> = attributes
        .as_array()
        .into_iter()
        .flatten()
        .map(|attribute| {
            vec![
                text(&attribute["scope"]),
                text(&attribute["name"]),
                text(&attribute["value"]),
            ]
        })
        .collect();
    rows.sort();
    table::print(&["SCOPE", "ATTRIBUTE", "VALUE"], &rows)
}

impl Decision {
    async fn carry_out(self, api: &Api, status: &str) -> Result<(), Failure> {
        let doing = format!("cannot have devices {status}");
        let devices: Vec<Device> = if self.all_pending {
            let found = api
                .list(&DEVICES, &[("status", "pending".into())], &doing)
                .await?;
            found
                .iter()
                .map(|value| decode(value, "a device"))
                .collect::<Result<_, _>>()?
        } else {
            let mut devices = Vec::new();
            for id in &self.ids {
                devices.push(decode(
                    &api.get(&[&DEVICES[..], &[id]].concat(), &[], &doing)
                        .await?,
                    "a device",
                )?);
            }
            devices
        };
        for device in &devices {
            // A device that made a new key has several sets; the one that waits is meant, and
            // without one that waits the newest.
            let set = device
                .auth_sets
                .iter()
                .filter(|set| set.status == "pending")
                .max_by(|one, other| one.ts.cmp(&other.ts))
                .or_else(|| {
                    device
                        .auth_sets
                        .iter()
                        .max_by(|one, other| one.ts.cmp(&other.ts))
                })
                .ok_or_else(|| anyhow!("{} has never asked for admission", device.id))?;
            let path = [&DEVICES[..], &[&device.id, "auth", &set.id, "status"]].concat();
            api.put(
                &path,
                &Status {
                    status: status.to_owned(),
                },
                &format!("cannot have {} {status}", device.id),
            )
            .await?;
            eprintln!("{} {status}  {}", device.id, identity(device));
        }
        if devices.is_empty() {
            eprintln!("No device waits for a decision.");
        }
        Ok(())
    }
}
