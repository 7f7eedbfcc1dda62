//! What is documented is routed, and what is routed is documented.

use std::collections::{BTreeMap, BTreeSet};

use ambidex_harness::{api, flow};
use ambidex_test_contract::{Listener, World};

#[test]
fn every_documented_path_knows_its_methods_and_no_other() {
    flow("routed", |scratch| async move {
        let world = World::start(&scratch, &[]).await?;
        let http = api::http_client(None)?;
        let mut documented: BTreeMap<(Listener, String), BTreeSet<String>> = BTreeMap::new();
        for operation in world.document.operations() {
            documented
                .entry((operation.listener, operation.path.clone()))
                .or_default()
                .insert(operation.method.clone());
        }
        let mut wrong = Vec::new();
        for ((listener, path), methods) in documented {
            let base = match listener {
                Listener::Public => world.server.url(),
                Listener::Internal => world.server.internal_url(),
            };
            let url = format!("{base}{}", path.replace(['{', '}'], ""));
            let answer = http.request(reqwest::Method::OPTIONS, &url).send().await?;
            let allowed: BTreeSet<String> = answer
                .headers()
                .get_all("allow")
                .iter()
                .filter_map(|value| value.to_str().ok())
                // HEAD comes with GET, OPTIONS with everything
                .filter(|method| !["HEAD", "OPTIONS"].contains(method))
                .map(str::to_owned)
                .collect();
            if answer.status() != 200 || !allowed.is_superset(&methods) {
                wrong.push(format!("{path}: {methods:?}, routed are {allowed:?}"));
            }
            let more: Vec<_> = allowed.difference(&methods).collect();
            if !more.is_empty() {
                wrong.push(format!("{path}: {more:?} routed but not documented"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}
