//! `bipo man`: manual pages, made from the flags and their help. A page of the program lists the commands; each command has a page.

use std::path::Path;

use bipo::Error;
use bipo::machine::files::write_atomic;
use bipo::report::shell::quote;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::next;
use crate::args::{Cli, ManArgs};
use crate::terminal::{self, Log};

pub fn run(args: &ManArgs) -> anyhow::Result<()> {
    let mut program = Cli::command().disable_help_subcommand(true);
    // Names the commands `bipo-train` and so on.
    program.build();
    let Some(dir) = &args.output_dir else {
        terminal::result(&String::from_utf8(page(&program)?)?)?;
        if terminal::is_read_by_a_person() {
            let command = "bipo man --output-dir ~/.local/share/man/man1";
            next::tell(false, "install the pages of all commands", command, Log::new(false, false));
        }
        return Ok(());
    };
    std::fs::create_dir_all(dir).map_err(|source| Error::write(dir, source))?;
    write(&program, dir)?;
    program.get_subcommands().try_for_each(|command| write(command, dir))?;
    let page = dir.join("bipo-train.1").display().to_string();
    next::tell(false, "read one", &format!("man -l {}", quote(&page)), Log::new(false, false));
    Ok(())
}

fn write(command: &Command, dir: &Path) -> anyhow::Result<()> {
    let name = Man::new(command.clone()).get_filename();
    Ok(write_atomic(&dir.join(name), &page(command)?)?)
}

/// The page of a command. What its help says behind the flags is broken as there, the examples line by line.
fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).source(concat!("bipo ", env!("CARGO_PKG_VERSION"))).manual("bipo");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = help.split_once("Examples:\n").unwrap_or((&help, ""));
    let mut rest = Roff::new();
    if !notes.is_empty() {
        rest.control("SH", ["NOTES"]);
        for paragraph in notes.trim_end().split("\n\n") {
            rest.control("PP", []).text([roman(paragraph)]);
        }
    }
    if !examples.is_empty() {
        rest.control("SH", ["EXAMPLES"]).control("nf", []).text([roman(examples)]).control("fi", []);
    }
    rest.to_writer(&mut page)?;
    Ok(page)
}
