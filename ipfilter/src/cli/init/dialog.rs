//! Asking at a terminal.

use std::{
    fmt::Display,
    io::{BufRead, Write},
};

use anyhow::ensure;
use ipnet::IpNet;

use super::Answers;
use crate::{addresses::AddressSet, overrides::parse_source, plan::PortSet};

/// Questions and answers.
pub(super) struct Dialog<R, W> {
    input: R,
    output: W,
}

impl<R: BufRead, W: Write> Dialog<R, W> {
    pub(super) fn new(input: R, output: W) -> Self {
        Self { input, output }
    }

    /// Asks for what is missing of the answers. `clients` shows who is connected to the ports, and which
    /// of them may call.
    pub(super) fn complete(
        &mut self,
        mut answers: Answers,
        interfaces: &[String],
        clients: impl Fn(&PortSet, &AddressSet) -> String,
    ) -> anyhow::Result<Answers> {
        if answers.interfaces.is_empty() {
            let question = format!("Interface to filter ({})", interfaces.join(", "));
            let only = match interfaces {
                [only] => Some(only.as_str()),
                _ => None,
            };
            answers.interfaces = self.ask(&question, only, |text| Ok::<_, String>(words(text)))?;
        }
        let ports = match answers.ports.take() {
            Some(ports) => ports,
            None => self.ask(
                "Ports of the API, such as 443 or 8000-8010",
                None,
                str::parse,
            )?,
        };
        let everyone = AddressSet::default().complement();
        write!(self.output, "{}", clients(&ports, &everyone))?;
        loop {
            if answers.allow.is_empty() {
                let question = "Who may call it: addresses and blocks, such as 203.0.113.0/24";
                answers.allow = self.ask(question, None, sources)?;
            }
            let allowed = AddressSet::from_networks(answers.allow.iter().copied());
            let shown = clients(&ports, &allowed);
            write!(self.output, "{shown}")?;
            if self.agrees("Is that right?", true)? {
                break;
            }
            answers.allow.clear();
        }
        if !answers.monitor {
            let question = "Begin by counting only, without denying anyone (monitor mode)?";
            answers.monitor = self.agrees(question, false)?;
        }
        answers.ports = Some(ports);
        Ok(answers)
    }

    /// Asks until the answer can be read.
    fn ask<T, E: Display>(
        &mut self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> anyhow::Result<T> {
        loop {
            let hint = default.map(|default| format!(" [{default}]"));
            write!(self.output, "{question}{}: ", hint.unwrap_or_default())?;
            self.output.flush()?;
            let line = self.line()?;
            let text = match (line.as_str(), default) {
                ("", Some(default)) => default,
                ("", None) => continue,
                (text, _) => text,
            };
            match read(text) {
                Ok(value) => return Ok(value),
                Err(error) => writeln!(self.output, "{error}")?,
            }
        }
    }

    fn agrees(&mut self, question: &str, default: bool) -> anyhow::Result<bool> {
        let default = if default { "y" } else { "n" };
        self.ask(
            &format!("{question} (y/n)"),
            Some(default),
            |text| match text {
                "y" | "yes" => Ok(true),
                "n" | "no" => Ok(false),
                _ => Err("answer `y` or `n`"),
            },
        )
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.input.read_line(&mut line)?;
        ensure!(read > 0, "the answers ended, and nothing is written");
        Ok(line.trim().to_owned())
    }
}

/// What spaces or commas separate.
fn words(text: &str) -> Vec<String> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn sources(text: &str) -> Result<Vec<IpNet>, String> {
    words(text).iter().map(|word| parse_source(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(input: &str, given: Answers) -> (anyhow::Result<Answers>, String) {
        let mut output = Vec::new();
        let clients = |ports: &PortSet, allowed: &AddressSet| {
            let may = allowed.contains("203.0.113.7".parse().unwrap());
            format!("at {ports}: {may}\n")
        };
        let mut dialog = Dialog::new(input.as_bytes(), &mut output);
        let answers = dialog.complete(given, &["eth0".into()], clients);
        (answers, String::from_utf8(output).unwrap())
    }

    #[test]
    fn it_asks_until_it_can_read_the_answers_and_shows_what_they_mean() {
        let input = "\nhttps\n443,8000-8010\n203.0.113.7/24\n198.51.100.0/24\nn\n\
                     203.0.113.0/24, 2001:db8::/32\nmaybe\ny\n\n";
        let (answers, said) = talk(input, Answers::default());
        let answers = answers.unwrap();
        assert_eq!(answers.interfaces, ["eth0"]);
        assert_eq!(answers.ports.unwrap().to_string(), "443,8000-8010");
        assert_eq!(answers.allow.len(), 2);
        assert!(!answers.monitor);
        assert!(said.contains("has bits set behind its prefix"), "{said}");
        let shown = ["at 443,8000-8010: true", "at 443,8000-8010: false"];
        assert!(shown.iter().all(|shown| said.contains(shown)), "{said}");
        assert!(said.contains("answer `y` or `n`"), "{said}");
    }

    #[test]
    fn what_is_given_is_not_asked_for_and_answers_that_end_write_nothing() {
        let given = || Answers {
            interfaces: vec!["eth9".into()],
            ports: "80".parse().ok(),
            allow: vec!["203.0.113.0/24".parse().unwrap()],
            monitor: true,
        };
        let (answers, said) = talk("y\n", given());
        assert!(answers.is_ok() && !said.contains("Interface"), "{said}");
        let (answers, _) = talk("", given());
        assert!(
            answers
                .unwrap_err()
                .to_string()
                .contains("nothing is written")
        );
    }
}
