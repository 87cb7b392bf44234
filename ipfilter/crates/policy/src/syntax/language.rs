//! Languages that policies are written in and that are not JSON.

use crate::text::problem::Advice;

/// How to get a policy that is in force.
pub(super) const GET: &str =
    "give what `aws apigateway get-rest-api --rest-api-id API_ID` prints once it is deployed";

/// What a text that is no JSON is written in.
pub(super) fn recognise(text: &str) -> Option<Advice> {
    let lines = || text.lines().map(str::trim_end).take(MOST_LINES);
    let code = || lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let begins =
        |starts: &[&str]| code().any(|line| starts.iter().any(|start| line.starts_with(start)));
    let holds = |words: &[&str]| lines().any(|line| words.iter().any(|word| line.contains(word)));
    let first = code().next()?;
    if begins(&[
        "resource \"",
        "data \"",
        "module \"",
        "variable \"",
        "locals {",
        "terraform {",
    ]) || first.contains("jsonencode(")
    {
        return Some(
            Advice::new("this is Terraform's language (HCL), not JSON")
                .hint("apply it, then give what `terraform show -json` prints"),
        );
    }
    let name = first
        .trim_start_matches("- ")
        .split(':')
        .next()
        .unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_\"'".contains(c);
    let is_yaml = first == "---"
        || first.starts_with("--- ")
        || first.starts_with('%')
        || (first.contains(':')
            && !name.is_empty()
            && name.chars().all(is_name)
            && !first.starts_with('"'));
    if !is_yaml {
        return None;
    }
    let what = if begins(&["openapi:", "swagger:"]) {
        "an API definition (OpenAPI) in YAML"
    } else if holds(&[
        "AWS::Serverless",
        "AWS::ApiGateway",
        "AWSTemplateFormatVersion",
    ]) {
        "a CloudFormation or SAM template in YAML"
    } else if begins(&["provider:", "functions:", "service:"]) {
        "a Serverless Framework configuration in YAML"
    } else {
        return Some(
            Advice::new("this is YAML; a policy is JSON")
                .hint("convert it: `yq -o json FILE` prints JSON"),
        );
    };
    Some(Advice::new(format!("this is {what}, not the policy")).hint(GET))
}

/// Lines that are examined to find what a text is.
const MOST_LINES: usize = 1_000;
