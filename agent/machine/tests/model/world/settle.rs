//! What the agent does at its start and after a deployment: it asks the running slot.

use ambidex_machine::{Finding, Sight, Software as Side, truth};

use super::{End, Env, Software, World, slot_number};
use crate::scenario::Mutation;

impl World<'_> {
    /// Asks the running slot which software this is, as the agent does at its start and after a deployment.
    pub fn settle(&mut self) -> Result<(), End> {
        if self.memory.record.is_some() || self.mutation == Some(Mutation::NeverSettle) {
            return Ok(());
        }
        let Some(pair) = self.memory.doubt else {
            return Ok(());
        };
        let sight = Sight {
            running: Some(slot_number(self.running)),
            booted: Some(slot_number(self.env.part)),
            on_trial: self.env.upgrade_available,
            content: None,
        };
        let mut finding = truth(pair, &sight);
        self.trace.push(format!("settle: {finding:?}"));
        self.moment()?;
        if finding == Finding::GoBackFirst {
            self.env = Env {
                part: self.running,
                upgrade_available: false,
                bootcount: 0,
            };
            self.moment()?;
            finding = Finding::Runs(Side::Old);
        }
        if let Finding::Runs(side) = finding {
            let (name, software) = match side {
                Side::Old => ("old", Software::Old),
                Side::New => ("new", Software::New),
            };
            self.memory.name = name.into();
            self.memory.provides = software;
            self.memory.doubt = None;
            self.found_new |= side == Side::New;
            self.write();
            self.moment()?;
        }
        Ok(())
    }
}
