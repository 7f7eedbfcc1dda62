//! One file a verb.

mod password;
mod tenant;
mod user;

use crate::cli::{Cli, Verb};
use crate::config::{Serve, Store};
use crate::serve;
use crate::services::{Options, Services};

pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.verb {
        Verb::Serve(args) => serve::run(Serve::load(cli.store, args)?).await,
        Verb::User(verb) => user::run(Store::load(cli.store)?, verb).await,
        Verb::Tenant(verb) => tenant::run(Store::load(cli.store)?, verb).await,
        Verb::Migrate => {
            let store = Store::load(cli.store)?;
            let services = Services::open(&store, Options::default())?;
            services.db.close().await?;
            println!("the database {} is up to date", store.database.display());
            Ok(())
        }
    }
}
