//! Resources that cannot be meant.

use crate::{
    evaluate::matches_a_call,
    options::Options,
    policy::Policy,
    syntax::{
        principal::is_account,
        resource::{Pattern, Resource},
        statement::{Effect, Statement},
        template::placeholder,
    },
    text::{
        pattern,
        problem::{Advice, Problems, Severity, clip},
    },
};

/// The id that the documentation's examples give an API.
const EXAMPLE_ID: &str = "abcdef1234";

pub(super) fn remark(
    statement: &Statement,
    policy: &Policy,
    options: &Options,
    problems: &mut Problems,
) {
    let resource = &statement.resource.is;
    for pattern in &resource.patterns {
        let advices = [
            matches_no_call(pattern, resource, statement.effect, policy),
            unfinished(pattern, options),
            lower_case_method(pattern),
        ];
        for (kind, advice) in advices.into_iter().flatten() {
            problems.add(
                Severity::Warning,
                kind,
                &pattern.path,
                &pattern.span,
                || advice,
            );
        }
    }
}

fn matches_no_call(
    pattern: &Pattern,
    resource: &Resource,
    effect: Effect,
    policy: &Policy,
) -> Option<(&'static str, Advice)> {
    if matches_a_call(pattern, resource.variables, &policy.api) {
        return None;
    }
    let written = clip(&pattern.written);
    let does = match (effect, resource.except) {
        (Effect::Allow, false) => "it allows nothing",
        (Effect::Deny, false) => "it denies nothing",
        (_, true) => "it excepts nothing",
    };
    let advice = Advice::new(format!("`{written}` matches no call of this API: {does}"));
    let open = format!("{}/*", pattern.written.trim_end_matches('/'));
    let opened = Pattern {
        written: open.clone(),
        ..pattern.clone()
    };
    Some((
        "no-call",
        match matches_a_call(&opened, resource.variables, &policy.api) {
            true => advice.hint(format!(
                "a call is API/STAGE/METHOD/PATH: write `{}` for all that begin so",
                clip(&open)
            )),
            false => advice.hint(
                "a call is arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH: write `execute-api:/*` for every one",
            ),
        },
    ))
}

/// What looks like the documentation's own examples.
fn unfinished(pattern: &Pattern, options: &Options) -> Option<(&'static str, Advice)> {
    let fields = pattern.fields()?;
    let words = [fields.region, fields.account, fields.api()];
    let left_in = |word: &&&str| {
        let word = word.to_ascii_lowercase().replace(['_', ' '], "-");
        [
            "region",
            "account",
            "account-id",
            "accountid",
            "api-id",
            "apiid",
            "rest-api-id",
            "restapiid",
        ]
        .contains(&word.as_str())
    };
    if let Some(word) = words.iter().find(left_in) {
        let advice = Advice::new(format!(
            "`{word}` looks like a placeholder that was left in"
        ));
        let what = placeholder(word).unwrap_or("the API's own");
        return Some(("placeholder", advice.hint(format!("put {what} there"))));
    }
    let account = fields.account;
    if !pattern::is_open(account) && !is_account(account) {
        let advice = Advice::new(format!(
            "`{}` is not an account: it matches none",
            clip(account)
        ));
        return Some((
            "account",
            advice.hint("an account is twelve digits, zeros in front included; `*` is any"),
        ));
    }
    if fields.api() == EXAMPLE_ID && options.api_arn.is_none() {
        let advice = Advice::new(format!(
            "`{EXAMPLE_ID}` is the documentation's example of an API's id"
        ));
        return Some((
            "placeholder",
            advice
                .hint("put your API's id there, or `*`; if it is yours, name it with `--api-arn`"),
        ));
    }
    None
}

/// A method that no client sends.
fn lower_case_method(pattern: &Pattern) -> Option<(&'static str, Advice)> {
    const METHODS: [&str; 7] = ["get", "put", "post", "head", "patch", "delete", "options"];
    let rest = pattern.short().or_else(|| Some(pattern.fields()?.rest))?;
    let method = rest.split('/').nth(2)?;
    let is_lower = METHODS.contains(&method.to_ascii_lowercase().as_str())
        && method
            .chars()
            .any(|character| character.is_ascii_lowercase());
    is_lower.then(|| {
        let upper = method.to_ascii_uppercase();
        (
            "method",
            Advice::new(format!(
                "`{method}` matches no call: methods are in upper case"
            ))
            .hint(format!("write `{upper}`")),
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::{Options, Source, parse::parse};

    /// The warnings about an Allow on one resource: the kinds, and the first hint.
    fn said(resource: &str, options: &Options) -> (Vec<&'static str>, String) {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Principal": "*",
            "Action": "execute-api:Invoke", "Resource": "{resource}"}}}}"#
        );
        let parsed = parse(&Source::new("policy", text), options);
        let path = "$.Statement.Resource";
        let problems = parsed.problems.into_iter();
        let on_resource = problems.filter(|one| one.path == path && one.kind != "maybe");
        let found: Vec<_> = on_resource.collect();
        let hint = found.first().and_then(|one| one.hint.clone());
        (
            found.iter().map(|one| one.kind).collect(),
            hint.unwrap_or_default(),
        )
    }

    #[test]
    fn what_cannot_be_meant_is_remarked_on() {
        for (resource, kinds, hint) in [
            (
                "execute-api:/prod/",
                &["no-call"][..],
                "`execute-api:/prod/*`",
            ),
            ("execute-api:/prod", &["no-call"], "`execute-api:/prod/*`"),
            ("execute-api:/prod/get/pets", &["method"], "`GET`"),
            ("execute-api:/prod/GET/pets", &[], ""),
            (
                "arn:aws:execute-api:region:123456789012:a1b2c3d4e5/*",
                &["placeholder"],
                "us-east-1",
            ),
            (
                "arn:aws:execute-api:*:account-id:a1b2c3d4e5/*",
                &["placeholder"],
                "twelve digits",
            ),
            (
                "arn:aws:execute-api:*:*:api-id/*",
                &["placeholder"],
                "the API's id",
            ),
            (
                "arn:aws:execute-api:*:12345:a1b2c3d4e5/*",
                &["account"],
                "twelve digits",
            ),
            (
                "arn:aws:execute-api:*:*:abcdef1234/*",
                &["placeholder"],
                "--api-arn",
            ),
            ("arn:aws-iso-b:execute-api:*:*:a1b2c3d4e5/*", &[], ""),
            (
                "arn:aws:execute-api:us-east-1:*/*/GET/*",
                &["no-call"],
                "REGION:ACCOUNT:API",
            ),
        ] {
            let (found, first) = said(resource, &Options::default());
            assert_eq!(found, kinds, "{resource}");
            assert!(first.contains(hint), "{resource}: {first}");
        }
        let named = Options {
            api_arn: "arn:aws:execute-api:us-east-1:123456789012:abcdef1234"
                .parse()
                .ok(),
            ..Options::default()
        };
        let (found, _) = said("arn:aws:execute-api:*:*:abcdef1234/*", &named);
        assert!(found.is_empty(), "{found:?}");
    }
}
