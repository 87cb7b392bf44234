//! The integration tests: one binary.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod config;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod equivalence;
#[cfg(test)]
mod explain_live;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gapless;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod kernel_equivalence;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod large;
#[cfg(test)]
mod linear;
#[cfg(test)]
mod live;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod policy_cli;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod run;
#[cfg(test)]
mod service;
#[cfg(test)]
mod top;
#[cfg(test)]
mod verdicts;
