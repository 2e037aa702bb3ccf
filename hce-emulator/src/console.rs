//! What the command-line programs share.

use std::panic;
use std::process;

/// Ends the process in order where standard output cannot be written, a full disk for example: what prints can only panic
/// of it. A reader that went away (`| head`) is no failure and ends nothing.
pub fn end_where_output_fails() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        match message.strip_prefix("failed printing to stdout: ") {
            Some(why) => {
                anstream::eprintln!("error: standard output: {why}");
                process::exit(1);
            }
            None => usual(panic),
        }
    }));
}
