//! What a policy means: cases from the documentation, evaluators compared, hostile documents, commands.

mod check_config;
mod commands;
mod differential;
mod equivalence;
mod explain;
mod fuzz;
