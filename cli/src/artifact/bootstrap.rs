//! `ambidex artifact write bootstrap-artifact`

use ambidex_artifact::Payload;
use clap::Args;

use super::write::Common;
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  Tell a new device that release-1 is what its image holds:
    ambidex artifact write bootstrap-artifact -c rpi4 -n release-1 -p rootfs-image.version:release-1")]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

impl Arguments {
    pub fn run(self) -> Result<(), Failure> {
        let spec = self.common.spec(Payload::Empty)?;
        self.common.write(spec, &[])
    }
}
