//! Update module `serial-mcu`: writes the flash of a microcontroller behind a serial port, through the system
//! bootloader of an STM32 (AN3155) or a bootloader that receives by XMODEM. See README.md; protocol version 3.

mod config;
mod control;
mod line;
mod module;
mod stm32;
mod target;
mod xmodem;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::module::Module;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(call), Some(tree)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: serial-mcu CALL TREE, as the protocol of update modules has it");
        return ExitCode::from(2);
    };
    let module = Module::new(PathBuf::from(tree));
    match module.answer(&call.to_string_lossy()) {
        Ok(answer) => {
            if let Some(answer) = answer {
                println!("{answer}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("serial-mcu: {error}");
            ExitCode::FAILURE
        }
    }
}
