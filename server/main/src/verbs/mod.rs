//! One file a verb.

mod password;
mod tenant;
mod user;

use crate::cli::{Cli, Verb};
use crate::config::{Log, Serve, Store};
use crate::openapi;
use crate::services::{Options, Services};
use crate::{log, serve};

pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    if !matches!(cli.verb, Verb::Serve(_)) {
        log::start(&Log::of_a_verb())?;
    }
    match cli.verb {
        Verb::Serve(args) => {
            let config = Serve::load(cli.store, args)?;
            log::start(&config.log)?;
            serve::run(config).await
        }
        Verb::User(verb) => user::run(Store::load(cli.store)?, verb).await,
        Verb::Tenant(verb) => tenant::run(Store::load(cli.store)?, verb).await,
        Verb::Openapi => {
            let document = openapi::document(openapi::Audience::All)?;
            println!("{}", serde_json::to_string_pretty(&document)?);
            Ok(())
        }
        Verb::Migrate => {
            let store = Store::load(cli.store)?;
            let services = Services::open(&store, Options::default()).await?;
            let database = services.db.label();
            services.db.close().await?;
            println!("the database {database} is up to date");
            Ok(())
        }
    }
}
