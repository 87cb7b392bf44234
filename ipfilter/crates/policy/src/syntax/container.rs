//! What people keep policies in: the output of tools, API definitions, templates.
//!
//! Where the policy in it is plain JSON it is taken out; else the file is named for what it is, with the
//! command that gets the policy.

use ipfilter_document::reader::BYTE_ORDER_MARK;

use super::language::{self, GET};
use crate::text::{
    json::{self, Kind, Node},
    problem::Advice,
};

/// What a text turns out to be.
pub(crate) enum Contents<'t> {
    /// The policy itself, or nothing that is known here.
    Itself,
    /// The policy is the body of a string, which begins at an offset.
    Escaped(&'t str, usize),
    /// The policy is a part of the text.
    Part(std::ops::Range<usize>),
    /// There is no policy to be had from it.
    Foreign(Advice),
}

/// Looks at what a text is.
pub(crate) fn contents(text: &str) -> Contents<'_> {
    let body = text.trim_start_matches(BYTE_ORDER_MARK);
    let skipped = text.len() - body.len();
    let trimmed = body.trim();
    let is_escaped = |rest: &str| rest.trim_start().starts_with("\\\"");
    if trimmed.strip_prefix('{').is_some_and(is_escaped) {
        // A string's body without its quotes.
        return match text.find(trimmed) {
            Some(start) => Contents::Escaped(trimmed, start),
            None => Contents::Itself,
        };
    }
    match trimmed.as_bytes().first() {
        Some(b'{') => in_object(&Object::of(Node::unread(body)), skipped),
        Some(b'[') => in_patches(Node::unread(body), skipped),
        Some(b'"') => match json::parse(body) {
            Ok(node) => inside(node, skipped).unwrap_or(Contents::Itself),
            Err(_) => Contents::Itself,
        },
        _ => language::recognise(trimmed).map_or(Contents::Itself, Contents::Foreign),
    }
}

/// A policy that a value holds: an object, or a string with one.
fn inside(node: Node<'_>, skipped: usize) -> Option<Contents<'_>> {
    if node.kind() == Kind::Object {
        let span = node.span();
        return Some(Contents::Part(skipped + span.start..skipped + span.end));
    }
    let policy = node.string().ok()??;
    let is_policy = policy.trim_start().starts_with(['{', '"']);
    is_policy.then(|| Contents::Escaped(node.body(), skipped + node.span().start + 1))
}

/// The members of an object.
struct Object<'t> {
    members: Vec<(String, Node<'t>)>,
}

impl<'t> Object<'t> {
    fn of(node: Node<'t>) -> Self {
        let members = node.members().into_iter();
        let named = members.filter_map(|(key, value)| {
            let name = key.string().ok().flatten()?;
            Some((name.into_owned(), value))
        });
        Self {
            members: named.collect(),
        }
    }

    /// The member of that name; none if there are several.
    fn get(&self, name: &str) -> Option<Node<'t>> {
        let mut named = self.members.iter().filter(|(member, _)| member == name);
        let (_, value) = named.next()?;
        named.next().is_none().then_some(*value)
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }
}

fn in_object<'t>(object: &Object<'t>, skipped: usize) -> Contents<'t> {
    if object.has("Statement") {
        return Contents::Itself;
    }
    if object.has_any(&["openapi", "swagger"]) {
        let policy = object.get("x-amazon-apigateway-policy");
        return one(
            "an API definition (OpenAPI)",
            policy.into_iter().collect(),
            skipped,
        );
    }
    if object.has_any(&["terraform_version", "planned_values", "format_version"]) {
        return one("Terraform's state or plan", in_terraform(object), skipped);
    }
    if object.has("AWSTemplateFormatVersion") || object.get("Resources").is_some_and(is_template) {
        return match in_template(object) {
            policies if policies.is_empty() && is_sam(object) => Contents::Foreign(
                Advice::new("this is a SAM template; SAM makes the resource policy from it")
                    .hint(GET),
            ),
            policies => one("a CloudFormation template", policies, skipped),
        };
    }
    if let Some(items) = object
        .get("items")
        .filter(|items| items.kind() == Kind::List)
    {
        let policies = items.elements().into_iter();
        let policies = policies.filter_map(|item| item.member("policy"));
        return one(
            "a list of APIs (`get-rest-apis`)",
            policies.collect(),
            skipped,
        );
    }
    if let Some(operations) = object.get("patchOperations") {
        return in_patches(operations, skipped);
    }
    if let Some(policy) = object.get("policy") {
        return inside(policy, skipped).unwrap_or(Contents::Itself);
    }
    if object.has("id") && object.has_any(&["apiKeySource", "createdDate", "endpointConfiguration"])
    {
        return Contents::Foreign(
            Advice::new(
                "this is what `get-rest-api` prints, and the API has no resource policy: everybody may call it",
            )
            .hint("attach a policy to the API first, or write one here"),
        );
    }
    Contents::Itself
}

/// The one policy among those that were found in something.
fn one<'t>(what: &str, mut policies: Vec<Node<'t>>, skipped: usize) -> Contents<'t> {
    let count = policies.len();
    let policy = policies.pop().filter(|_| count == 1);
    if let Some(contents) = policy.and_then(|policy| inside(policy, skipped)) {
        return contents;
    }
    Contents::Foreign(match count {
        0 => Advice::new(format!("this is {what}, without a resource policy in it"))
            .hint(format!("if the API has one, {GET}")),
        1 => Advice::new(format!(
            "this is {what}; its resource policy is not plain JSON"
        ))
        .hint(GET),
        _ => Advice::new(format!(
            "this is {what}, with {count} resource policies in it"
        ))
        .hint("which is meant? Put that policy in a separate file and name that"),
    })
}

/// `[{"op": "replace", "path": "/policy", "value": "…"}]`.
fn in_patches(list: Node<'_>, skipped: usize) -> Contents<'_> {
    let is_policy = |operation: &Node<'_>| {
        let path = operation
            .member("path")
            .and_then(|path| path.string().ok().flatten());
        path.is_some_and(|path| path == "/policy")
    };
    let operations: Vec<Node<'_>> = list.elements();
    if !operations.iter().any(|one| one.member("op").is_some()) {
        return Contents::Itself;
    }
    let policies = operations.into_iter().filter(is_policy);
    let values = policies.filter_map(|operation| operation.member("value"));
    one("a list of patch operations", values.collect(), skipped)
}

/// The types of resources that hold a resource policy.
const TERRAFORM_TYPES: [&str; 2] = [
    "aws_api_gateway_rest_api_policy",
    "aws_api_gateway_rest_api",
];

fn in_terraform<'t>(object: &Object<'t>) -> Vec<Node<'t>> {
    let mut found = Vec::new();
    if let Some(resources) = object.get("resources") {
        for resource in resources.elements().into_iter().filter(is_terraform_api) {
            let instances = resource.member("instances").map(|list| list.elements());
            for instance in instances.into_iter().flatten() {
                let policy = instance
                    .member("attributes")
                    .and_then(|one| one.member("policy"));
                found.extend(policy.filter(has_text));
            }
        }
    }
    for values in ["values", "planned_values"] {
        let module = object
            .get(values)
            .and_then(|values| values.member("root_module"));
        let mut modules: Vec<Node<'_>> = module.into_iter().collect();
        while let Some(module) = modules.pop() {
            let resources = module.member("resources").map(|list| list.elements());
            for resource in resources.into_iter().flatten().filter(is_terraform_api) {
                let policy = resource
                    .member("values")
                    .and_then(|one| one.member("policy"));
                found.extend(policy.filter(has_text));
            }
            let children = module.member("child_modules").map(|list| list.elements());
            modules.extend(children.into_iter().flatten());
        }
    }
    // A policy resource and its API show the same policy.
    found.dedup_by_key(|policy| policy.text());
    found
}

fn is_terraform_api(resource: &Node<'_>) -> bool {
    let kind = resource
        .member("type")
        .and_then(|kind| kind.string().ok().flatten());
    kind.is_some_and(|kind| TERRAFORM_TYPES.contains(&kind.as_ref()))
}

fn has_text(policy: &Node<'_>) -> bool {
    policy
        .string()
        .ok()
        .flatten()
        .is_some_and(|policy| !policy.trim().is_empty())
}

fn is_template(resources: Node<'_>) -> bool {
    let mut members = resources.members().into_iter();
    members.any(|(_, resource)| resource.member("Type").is_some())
}

fn in_template<'t>(object: &Object<'t>) -> Vec<Node<'t>> {
    let policies = resources(object, "AWS::ApiGateway::RestApi").into_iter();
    policies
        .filter_map(|properties| properties.member("Policy"))
        .collect()
}

fn is_sam(object: &Object<'_>) -> bool {
    object.has("Transform") || !resources(object, "AWS::Serverless::Api").is_empty()
}

/// The properties of a template's resources of one type.
fn resources<'t>(object: &Object<'t>, kind: &str) -> Vec<Node<'t>> {
    let resources = object.get("Resources").map(|resources| resources.members());
    let resources = resources.into_iter().flatten().filter_map(|(_, resource)| {
        let of = resource.member("Type")?.string().ok()??;
        (of == kind).then(|| resource.member("Properties"))?
    });
    resources.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": []}"#;

    /// The policy found in a text, or the problem with it.
    fn found(text: &str) -> String {
        match contents(text) {
            Contents::Itself => "itself".to_owned(),
            Contents::Escaped(body, start) => {
                assert!(text[start..].starts_with(body), "{text}");
                serde_json::from_str(&format!("\"{body}\"")).unwrap()
            }
            Contents::Part(span) => text[span].to_owned(),
            Contents::Foreign(advice) => format!("{}; {}", advice.message, advice.hint.unwrap()),
        }
    }

    #[test]
    fn a_policy_is_taken_out_of_what_holds_it() {
        let quoted = serde_json::to_string(POLICY).unwrap();
        for text in [
            format!(r#"{{"id": "x", "policy": {quoted}}}"#),
            format!(r#"{{"id": "x", "policy": {POLICY}}}"#),
            format!(r#"{{"openapi": "3.0.3", "x-amazon-apigateway-policy": {POLICY}}}"#),
            format!(r#"{{"swagger": "2.0", "x-amazon-apigateway-policy": {quoted}}}"#),
            format!(r#"{{"items": [{{"id": "x"}}, {{"id": "y", "policy": {quoted}}}]}}"#),
            format!(r#"[{{"op": "replace", "path": "/policy", "value": {quoted}}}]"#),
            format!(
                r#"{{"restApiId": "x", "patchOperations": [{{"op": "replace", "path": "/policy", "value": {quoted}}}]}}"#
            ),
            format!(
                r#"{{"terraform_version": "1", "resources": [{{"type": "aws_api_gateway_rest_api",
                "instances": [{{"attributes": {{"policy": {quoted}}}}}]}}]}}"#
            ),
            format!(
                r#"{{"format_version": "1", "planned_values": {{"root_module": {{"child_modules": [{{"resources":
                [{{"type": "aws_api_gateway_rest_api_policy", "values": {{"policy": {quoted}}}}}]}}]}}}}}}"#
            ),
            format!(
                r#"{{"Resources": {{"Api": {{"Type": "AWS::ApiGateway::RestApi", "Properties": {{"Policy": {POLICY}}}}}}}}}"#
            ),
        ] {
            assert_eq!(found(&text), POLICY, "{text}");
        }
        assert_eq!(found(POLICY), "itself");
        assert_eq!(found(r#"{"x-amazon-apigateway-policy": {}}"#), "itself");
    }

    #[test]
    fn what_holds_none_is_named() {
        for (text, said) in [
            (
                r#"{"openapi": "3.0.3", "paths": {}}"#,
                "without a resource policy",
            ),
            (
                r#"{"id": "x", "name": "y", "apiKeySource": "HEADER"}"#,
                "everybody may call it",
            ),
            (
                r#"{"Resources": {"A": {"Type": "AWS::Serverless::Api", "Properties": {}}}}"#,
                "this is a SAM template",
            ),
            (
                r#"{"items": [{"id": "x", "policy": "{}"}, {"id": "y", "policy": "{}"}]}"#,
                "2 resource policies",
            ),
            (
                "resource \"aws_api_gateway_rest_api_policy\" \"this\" {\n",
                "terraform show -json",
            ),
            ("---\nVersion: '2012-10-17'\nStatement:\n", "yq -o json"),
            (
                "AWSTemplateFormatVersion: '2010-09-09'\nResources:\n",
                "CloudFormation or SAM",
            ),
            ("# x\nopenapi: 3.0.3\n", "OpenAPI"),
            (
                "service: pets\nprovider:\n  name: aws\n",
                "Serverless Framework",
            ),
        ] {
            assert!(found(text).contains(said), "{text}: {}", found(text));
        }
    }
}
