//! Who shows no token, or the wrong kind, learns nothing but 401.

use ambidex_harness::flow;
use ambidex_test_contract::{Call, DeviceKey, Guard, Listener, Operation, World};

/// A call of the operation with anything in its path.
fn bare(operation: &Operation) -> Call {
    let names = operation.path.split(['{', '}']).skip(1).step_by(2);
    names.fold(Call::new(&operation.name), |call, name| call.at(name, "x"))
}

#[test]
fn every_secured_operation_answers_401_without_a_token_and_with_the_wrong_kind() {
    flow("guarded", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let (_, device) = world.device(&tenant, &DeviceKey::new("01")).await?;
        let mut wrong = Vec::new();
        let mut guarded = 0;
        for operation in world.document.operations() {
            let other = match operation.guard {
                Guard::User => &device,
                Guard::Device => &tenant.user,
                Guard::Open | Guard::Password => continue,
            };
            guarded += 1;
            for (what, call) in [
                ("no token", bare(operation)),
                ("a token of the other kind", bare(operation).by(other)),
                ("garbage", bare(operation).by("x.y.z")),
            ] {
                match world.send(call).await {
                    Ok(answer) if answer.status == 401 => {}
                    Ok(answer) => {
                        wrong.push(format!("{} with {what}: {}", operation.name, answer.status))
                    }
                    Err(error) => wrong.push(format!("{} with {what}: {error:#}", operation.name)),
                }
            }
        }
        assert!(guarded > 90, "the document says that {guarded} are guarded");
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

#[test]
fn internal_paths_do_not_exist_on_the_public_listener() {
    flow("internal-paths", |scratch| async move {
        let world = World::start(&scratch, &[]).await?;
        let user = world.server.login().await?;
        for operation in world.document.operations() {
            if operation.listener != Listener::Internal {
                continue;
            }
            let path = operation.path.replace(['{', '}'], "");
            let method = operation.method.parse()?;
            let (status, _, _) = user.request(method, &path, None).await?;
            assert_eq!(status.as_u16(), 404, "{} {path}", operation.method);
        }
        Ok(())
    });
}
