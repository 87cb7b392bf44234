//! What people hand over as a policy, and what they must be told.

use ipfilter_policy::{
    Authorizer, Decision, Enforceable, Options, Parsed, Severity, Source, parse,
};
use jiff::Timestamp;

/// A document of `tests/field`, and the message it must get: a part of a message, a part of a hint.
struct Case {
    file: &'static str,
    authorizer: Authorizer,
    enforceable: Enforceable,
    said: &'static [(Severity, &'static str, &'static str)],
}

use Severity::{Error as E, Maybe as M, Warning as W};

const NONE: Authorizer = Authorizer::None;
const IAM: Authorizer = Authorizer::Iam;

const CASES: &[Case] = &[
    Case {
        file: "F1-five-field-deny.json",
        authorizer: NONE,
        enforceable: Enforceable::Partly,
        said: &[(M, "stage, method and path", "all but `203.0.113.0/24`")],
    },
    Case {
        file: "F4-org-paths.json",
        authorizer: IAM,
        enforceable: Enforceable::Partly,
        said: &[(
            M,
            "`ForAnyValue:StringLike` on `aws:PrincipalOrgPaths`",
            "all sources pass",
        )],
    },
    Case {
        file: "F4-org-paths.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[(
            W,
            "`aws:PrincipalOrgPaths` needs IAM authorization",
            "--authorizer iam",
        )],
    },
    Case {
        file: "F6-arn-placeholders-angle.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(E, "`<region>` is a placeholder", "us-east-1")],
    },
    Case {
        file: "F6-template-variables.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(
            E,
            "`${region}` is not a policy variable: a template was not rendered",
            "us-east-1",
        )],
    },
    Case {
        file: "F8-principal-empty.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[
            (
                E,
                "asterisk got lost, as it does in Markdown",
                "\"Principal\": \"*\"",
            ),
            (
                E,
                "lost its asterisks, as it does in Markdown",
                "`execute-api:/*/*/*`",
            ),
        ],
    },
    Case {
        file: "G-api-without-policy.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(
            E,
            "this is what `get-rest-api` prints, and the API has no resource policy: everybody may call it",
            "attach a policy",
        )],
    },
    Case {
        file: "G-bare-zero.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[(
            W,
            "`0.0.0.0` is one address",
            "`0.0.0.0/0`, which is everyone",
        )],
    },
    Case {
        file: "G-cfn-ref.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[
            (E, "CloudFormation's `Ref`", "aws apigateway get-rest-api"),
            (
                E,
                "CloudFormation's `Fn::Sub`",
                "aws apigateway get-rest-api",
            ),
        ],
    },
    Case {
        file: "G-comment.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(
            E,
            "`//` begins a comment, and JSON has none",
            "remove the comment",
        )],
    },
    Case {
        file: "G-expired.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[(
            W,
            "the Allow's time is over since 2024-06-30T23:59:59Z",
            "another time",
        )],
    },
    Case {
        file: "G-in-openapi.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[],
    },
    Case {
        file: "G-in-tfstate.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[],
    },
    Case {
        file: "G-nbsp.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(E, "an invisible no-break space (U+00A0)", "plain space")],
    },
    Case {
        file: "G-org-id-needs-iam.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[
            (
                W,
                "`aws:PrincipalOrgID` needs IAM authorization",
                "--authorizer iam",
            ),
            (W, "the statement never matches", "it allows nobody"),
        ],
    },
    Case {
        file: "G-org-id-needs-iam.json",
        authorizer: IAM,
        enforceable: Enforceable::Partly,
        said: &[(
            M,
            "`StringEquals` on `aws:PrincipalOrgID`",
            "all sources pass",
        )],
    },
    Case {
        file: "G-resource-matches-no-call-1.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[
            (
                W,
                "matches no call of this API: it allows nothing",
                "abcdef1234/*",
            ),
            (W, "the statement never matches", "it allows nobody"),
        ],
    },
    Case {
        file: "G-serverless.yml",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(
            E,
            "Serverless Framework configuration in YAML",
            "aws apigateway get-rest-api",
        )],
    },
    Case {
        file: "G-smart-quotes.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(
            E,
            "`“` (U+201C) is a typographic quote",
            "plain double quotes",
        )],
    },
    Case {
        file: "G-space-list.json",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(
            E,
            "is not an address",
            "make it a list: one string for each address",
        )],
    },
    Case {
        file: "G-terraform.tf",
        authorizer: NONE,
        enforceable: Enforceable::Not,
        said: &[(E, "Terraform's language (HCL)", "`terraform show -json`")],
    },
    Case {
        file: "G-two-vpce-denies.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[(
            W,
            "together with statement 1 it denies whatever `aws:SourceVpce` is",
            "one list",
        )],
    },
    Case {
        file: "G-unroutable.json",
        authorizer: NONE,
        enforceable: Enforceable::Exactly,
        said: &[
            (W, "`0.0.0.2` matches nobody", "that clients have"),
            (W, "`240.240.240.240` matches nobody", "that clients have"),
            (W, "`127.0.0.1` matches nobody", "that clients have"),
            (W, "`224.0.0.0/4` matches nobody", "that clients have"),
        ],
    },
];

fn read(file: &str, options: &Options) -> Parsed {
    let path = format!("{}/tests/field/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    parse(&Source::new(file, bytes), options)
}

#[test]
fn each_document_is_called_what_it_is() {
    for case in CASES {
        let options = Options {
            authorizer: case.authorizer,
            ..Options::default()
        };
        let parsed = read(case.file, &options);
        let Parsed { problems, .. } = &parsed;
        let (file, authorizer) = (case.file, case.authorizer);
        assert_eq!(
            parsed.enforceable(),
            case.enforceable,
            "{file} {authorizer}: {problems:#?}"
        );
        for (severity, message, hint) in case.said {
            let is_said = problems.iter().any(|problem| {
                problem.severity == *severity
                    && problem.message.contains(message)
                    && problem
                        .hint
                        .as_ref()
                        .is_some_and(|said| said.contains(hint))
            });
            assert!(
                is_said,
                "{file} {authorizer}: {message} / {hint}: {problems:#?}"
            );
        }
        if case.said.is_empty() {
            assert!(problems.is_empty(), "{file}: {problems:#?}");
        }
        let errors = case
            .said
            .iter()
            .filter(|(severity, ..)| *severity == E)
            .count();
        assert!(parsed.errors >= errors, "{file}");
    }
}

#[test]
fn what_follows_is_what_is_said() {
    let now = Timestamp::now();
    let denied = |file: &str, source: &str, options: &Options| {
        let policy = read(file, options).policy.expect("a policy");
        let source = source.parse().expect("an address");
        let denied = policy.explain(source, now).decision == Decision::Deny;
        assert_eq!(policy.at(now).may_pass.contains(source), !denied, "{file}");
        denied
    };
    let plain = Options::default();
    let two = "G-two-vpce-denies.json";
    assert!(denied(two, "10.0.0.1", &plain), "one endpoint a request");
    assert!(
        denied(two, "8.8.8.8", &plain),
        "no endpoint, so neither of them"
    );
    assert!(denied("G-org-id-needs-iam.json", "8.8.8.8", &plain));
    assert!(denied(
        "G-resource-matches-no-call-1.json",
        "203.0.113.7",
        &plain
    ));
    for arn in [
        "us-east-1:123456789012:abcdef1234",
        "eu-west-1:210987654321:zyxwvu9876",
    ] {
        let named = Options {
            api_arn: Some(
                format!("arn:aws:execute-api:{arn}")
                    .parse()
                    .expect("an ARN"),
            ),
            ..Options::default()
        };
        for source in ["8.8.8.8", "203.0.113.7", "10.0.0.1", "2001:db8::1"] {
            assert!(
                !denied("F1-five-field-deny.json", source, &named),
                "{arn} {source}"
            );
        }
    }
}
