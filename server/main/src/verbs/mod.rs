//! One file a verb.

mod backup;
mod migrate;
mod password;
mod tenant;
mod user;

use crate::cli::{Cli, Verb};
use crate::config::{Log, Serve, Store};
use crate::openapi;
use crate::{log, serve};

pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    if !matches!(cli.verb, Verb::Serve(_)) {
        log::start(&Log::of_a_verb())?;
    }
    match cli.verb {
        Verb::Serve(args) => {
            let config = Serve::load(cli.store, *args)?;
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
        Verb::Migrate => migrate::run(&Store::load(cli.store)?).await,
        Verb::Backup { file, force } => {
            backup::backup(&Store::load(cli.store)?, &file, force).await
        }
        Verb::Restore { file, check, .. } if check => backup::check(file).await,
        Verb::Restore { file, force, .. } => {
            backup::restore(&Store::load(cli.store)?, file, force).await
        }
    }
}
