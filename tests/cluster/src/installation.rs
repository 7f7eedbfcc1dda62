//! The engines that instances share, and the instances.

use std::path::{Path, PathBuf};

use ambidex_harness::api::http_client;
use ambidex_harness::{Nats, S3, Server, skip};
use ambidex_testdb::{Cluster, Missing, Options};
use anyhow::Result;

/// What instances have in common: database, message bus, artifact store.
pub struct Engines {
    pub database: Cluster,
    pub nats: Nats,
    pub s3: S3,
    folder: PathBuf,
}

impl Engines {
    /// Starts them; `None`, and the test counts as skipped, when one is not installed.
    pub async fn start(folder: &Path) -> Result<Option<Engines>> {
        let Some(nats) = Nats::start(folder, &[]).await? else {
            return Ok(None);
        };
        let Some(s3) = S3::start(folder).await? else {
            return Ok(None);
        };
        let durable = Options {
            durable: true,
            ..Options::default()
        };
        let database = match Cluster::start(durable) {
            Ok(database) => database,
            Err(error) if error.is::<Missing>() => {
                skip(&error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Engines {
            database,
            nats,
            s3,
            folder: folder.to_owned(),
        }))
    }

    fn options(&self) -> Result<Vec<String>> {
        Ok(vec![
            format!("--database-url={}", self.database.url()),
            format!("--storage-url={}", self.s3.url()?),
            format!("--nats-url={}", self.nats.url()),
        ])
    }

    /// The first instance; it makes the user.
    pub async fn first(&self) -> Result<Server> {
        let options = self.options()?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Server::start_with(&self.folder.join("one"), &options).await
    }

    /// A further instance, with a data directory of its own.
    pub async fn another(&self, name: &str) -> Result<Server> {
        let options = self.options()?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Server::join_with(&self.folder.join(name), &options).await
    }
}

/// Two instances that serve one fleet.
pub struct Installation {
    pub one: Server,
    pub two: Server,
    pub engines: Engines,
    /// For requests of devices.
    pub http: reqwest::Client,
}

impl Installation {
    /// Starts everything; `None`, and the test counts as skipped, when something is not installed.
    pub async fn start(folder: &Path) -> Result<Option<Installation>> {
        let Some(engines) = Engines::start(folder).await? else {
            return Ok(None);
        };
        Ok(Some(Installation {
            one: engines.first().await?,
            two: engines.another("two").await?,
            engines,
            http: http_client(None)?,
        }))
    }
}
