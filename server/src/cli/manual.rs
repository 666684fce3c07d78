//! `autolrs man` and `autolrs completions`: made from the command line's own definition, so they can't say anything else.

use super::{client::ClientError, command, jobs::print};
use crate::exit;
use clap::Args;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::io;

/// Which page.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page is wanted, such as `jobs list`; none: the page of `autolrs`.
    command: Vec<String>,
}

/// Which shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints a manual page in roff.
///
/// # Errors
/// If there is no such command, or stdout can't be written.
pub fn man(args: &ManArgs) -> Result<(), ClientError> {
    let mut page = command();
    page.build();
    for name in &args.command {
        let found = page.find_subcommand(name).cloned();
        page = found.ok_or_else(|| {
            ClientError::Nothing(format!("autolrs has no command {:?}", args.command.join(" ")))
        })?;
    }
    let title = page.get_bin_name().unwrap_or("autolrs").replace(' ', "-");
    // The exit codes have a section of their own.
    let man = Man::new(page.after_help(None::<&str>)).title(title);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    man.render_subcommands_section(&mut out)?;
    exit_status(&mut out)?;
    print(&String::from_utf8_lossy(&out))
}

fn exit_status(out: &mut dyn io::Write) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit::CODES {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    roff.to_writer(out)
}

/// Prints a script for the shell.
///
/// # Errors
/// If stdout can't be written.
pub fn completions(args: &CompletionsArgs) -> Result<(), ClientError> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "autolrs", &mut out);
    print(&String::from_utf8_lossy(&out))
}
