//! The calls of the payload handler, as the state machine names them.

use ambidex_artifact::Verification;
use ambidex_install::{
    Handler, InstallContext, Reboot as HandlerReboot, RootfsConfig,
    boot::{self, BootConfig},
};
use ambidex_machine::{Call, Facts, Reboot};

use super::store::Store;
use crate::config::{BootKind, Config, ConfigError, device_type};

/// The device as the installer sees it now.
///
/// # Errors
/// When the device type cannot be read.
pub fn context(config: &Config, store: &Store) -> Result<InstallContext, ConfigError> {
    Ok(context_for(config, store, device_type(config)?))
}

fn context_for(config: &Config, store: &Store, device_type: String) -> InstallContext {
    let roots = &config.roots;
    let mut context = InstallContext::new(
        roots.modules(),
        roots.module_work(),
        roots.artifact_scripts(),
        device_type,
    );
    context.module_timeout = config.module_timeout;
    context.current_name = store.artifact_name().unwrap_or_default().to_owned();
    context.current_group = store.artifact_group().map(str::to_owned);
    context.rootfs = rootfs(config);
    context.rootfs_module = config.rootfs_module;
    context
}

/// The pair of slots and its bootloader, as configured.
pub fn rootfs(config: &Config) -> RootfsConfig {
    let mut boot = BootConfig {
        fw_env_config: config.boot.fw_env_config.clone(),
        boot_parts: config.boot.boot_parts,
        script: config.boot.script.clone(),
        prepare_slot: config.boot.prepare_slot.clone(),
        ..BootConfig::default()
    };
    boot.kind = match config.boot.kind {
        BootKind::Auto => boot::BootKind::Auto,
        BootKind::Grub => boot::BootKind::Grub,
        BootKind::Uboot => boot::BootKind::Uboot,
        BootKind::Tools => boot::BootKind::Tools,
        BootKind::Tryboot => boot::BootKind::Tryboot,
        BootKind::SystemdBoot => boot::BootKind::SystemdBoot,
        BootKind::Script => boot::BootKind::Script,
    };
    for (configured, place) in [
        (&config.boot.env_dir, &mut boot.env_dir),
        (&config.boot.autoboot_dir, &mut boot.autoboot_dir),
        (&config.boot.firmware_dir, &mut boot.firmware_dir),
        (&config.boot.armed_file, &mut boot.armed_file),
        (&config.boot.esp, &mut boot.esp),
    ] {
        if let Some(path) = configured {
            place.clone_from(path);
        }
    }
    RootfsConfig {
        part_a: config.rootfs_part_a.clone().map(Into::into),
        part_b: config.rootfs_part_b.clone().map(Into::into),
        boot,
        running_root: config.running_root.clone(),
        verify_written: config.verify_written,
    }
}

/// Keys in the configuration make a signature mandatory.
pub fn verification(config: &Config) -> Verification {
    if config.verify_keys.is_empty() {
        Verification::Ignore
    } else {
        Verification::Require(config.verify_keys.clone())
    }
}

/// The handler of the deployment in work, made when it is first needed.
#[derive(Debug, Default)]
pub struct Handling {
    handler: Option<Box<Handler>>,
}

impl Handling {
    /// Takes over the handler that the download used.
    pub fn adopt(&mut self, handler: Option<Box<Handler>>) {
        self.handler = handler;
    }

    /// The handler after a restart, from what the record says.
    fn handler(
        &mut self,
        config: &Config,
        store: &Store,
        facts: Option<&Facts>,
    ) -> Result<&Handler, String> {
        if self.handler.is_none() {
            let payload_type = facts
                .and_then(|facts| facts.payload_type.as_deref())
                .ok_or("the record does not say what kind of payload this is")?;
            // After a restart the device type only matters for a download: no reason not to roll back.
            let device_type = device_type(config).unwrap_or_default();
            let context = context_for(config, store, device_type);
            let handler =
                Handler::resume(payload_type, &context).map_err(|error| error.to_string())?;
            self.handler = Some(Box::new(handler));
        }
        self.handler
            .as_deref()
            .ok_or_else(|| "no handler".to_owned())
    }

    /// One call that is not a question.
    ///
    /// # Errors
    /// What failed, for people.
    pub async fn call(
        &mut self,
        call: Call,
        config: &Config,
        store: &Store,
        facts: Option<&Facts>,
    ) -> Result<(), String> {
        let handler = self.handler(config, store, facts)?;
        log::info!("{}", call.as_str());
        match call {
            Call::Install => handler.install().await,
            Call::Reboot => handler.reboot().await,
            Call::VerifyReboot => handler.verify_reboot().await,
            Call::Commit => handler.commit().await,
            Call::Rollback => handler.rollback().await,
            Call::RollbackReboot => handler.rollback_reboot().await,
            Call::VerifyRollbackReboot => handler.verify_rollback_reboot().await,
            Call::Failure => handler.failure().await,
            Call::Cleanup => handler.cleanup().await,
        }
        .map_err(|error| error.to_string())
    }

    /// Whether a reboot is needed, and by whom.
    ///
    /// # Errors
    /// What failed, for people.
    pub async fn needs_reboot(
        &mut self,
        config: &Config,
        store: &Store,
        facts: Option<&Facts>,
    ) -> Result<Reboot, String> {
        match self.handler(config, store, facts)?.needs_reboot().await {
            Ok(HandlerReboot::No) => Ok(Reboot::No),
            Ok(HandlerReboot::Custom) => Ok(Reboot::Custom),
            Ok(HandlerReboot::Automatic) => Ok(Reboot::Automatic),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the restart must be given as its argument, so that the boot loader knows it for a trial.
    ///
    /// # Errors
    /// What failed, for people.
    pub fn reboot_argument(
        &mut self,
        config: &Config,
        store: &Store,
        facts: Option<&Facts>,
    ) -> Result<Option<&'static str>, String> {
        self.handler(config, store, facts)?
            .reboot_argument()
            .map_err(|error| error.to_string())
    }

    /// Whether the handler can go back.
    ///
    /// # Errors
    /// What failed, for people.
    pub async fn supports_rollback(
        &mut self,
        config: &Config,
        store: &Store,
        facts: Option<&Facts>,
    ) -> Result<bool, String> {
        self.handler(config, store, facts)?
            .supports_rollback()
            .await
            .map_err(|error| error.to_string())
    }
}
