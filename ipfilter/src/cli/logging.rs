//! Where the log goes: to the journal, with priorities and fields, where standard error is the
//! journal's; else to standard error.

use std::io;

use anstream::adapter::strip_str;
use env_logger::Builder;
use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::instance::Instance;

/// Begins to log, as `RUST_LOG` has it.
pub(super) fn begin(instance: &Instance) {
    let mut builder = Builder::new();
    builder
        .filter_level(LevelFilter::Info)
        // Of no use to operators, and much of it.
        .filter_module("aya", LevelFilter::Info)
        .filter_module("aya_obj", LevelFilter::Info)
        .parse_default_env();
    let begun = match connected_to_journal().then(|| journal(instance)) {
        Some(Ok(journal)) => {
            let filter = builder.build();
            log::set_max_level(filter.filter());
            log::set_boxed_logger(Box::new(Journal { filter, journal }))
        }
        // Standard error reaches the journal too, if only as text.
        Some(Err(_)) | None => builder.try_init(),
    };
    // There is none before this one.
    debug_assert!(begun.is_ok());
}

fn journal(instance: &Instance) -> io::Result<JournalLog> {
    let journal = JournalLog::new()?;
    Ok(journal.add_extra_field("IPFILTER_INSTANCE", instance.name()))
}

/// The journal, for what the filter lets through.
struct Journal {
    filter: env_logger::Logger,
    journal: JournalLog,
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            // Colours are for terminals.
            let message = strip_str(&record.args().to_string()).to_string();
            self.journal.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .args(format_args!("{message}"))
                    .key_values(record.key_values())
                    .module_path(record.module_path())
                    .file(record.file())
                    .line(record.line())
                    .build(),
            );
        }
    }

    fn flush(&self) {
        self.journal.flush();
    }
}
