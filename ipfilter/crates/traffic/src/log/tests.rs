use super::*;

fn one(text: &str, field: Option<&str>) -> (Option<Format>, Vec<String>) {
    let format = detect(text);
    let field = field.map(|it| it.parse::<Field>().unwrap());
    let mut items = Vec::new();
    read(
        &mut text.as_bytes(),
        format.as_ref(),
        field.as_ref(),
        |item| {
            items.push(match item {
                Item::Record(record) => format!(
                    "{} {} {} {} {}",
                    record.source.map_or("-".into(), |it| it.to_string()),
                    record.time.map_or("-".into(), |it| it.to_string()),
                    record.port.map_or("-".into(), |(_, port)| port.to_string()),
                    record.method.as_deref().unwrap_or("-"),
                    record.path.as_deref().unwrap_or("-"),
                ),
                Item::Unreadable(line, why) => format!("{line}: {why}"),
            });
        },
    )
    .unwrap();
    (format, items)
}

fn check(text: &str, name: &str, want: &[&str]) {
    let (format, items) = one(text, None);
    assert_eq!(format.as_ref().map(Format::name), Some(name), "{text}");
    assert_eq!(items, want, "{text}");
}

#[test]
fn web_servers_logs_are_known() {
    let line = r#"192.0.2.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b HTTP/1.0" 200 2326 "http://x/" "Mozilla/4.08 [en]""#;
    let want = "192.0.2.1 2000-10-10T20:55:36Z - GET /a?b";
    check(line, "combined access log", &[want]);
    check(
        &format!("shop.example:443 {line}"),
        "combined access log",
        &[want],
    );
    check(
        &format!("{line}\ngarbage\n\n2001:db8::1 - - [10/Oct/2000:13:55:36 +0000] \"-\" 400 0\n"),
        "combined access log",
        &[
            want,
            "2: there is no time in brackets",
            "2001:db8::1 2000-10-10T13:55:36Z - - -",
        ],
    );
}

#[test]
fn load_balancers_logs_are_known() {
    check(
        r#"https 2018-07-02T22:23:00.186641Z app/my-lb/50dc 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:8443/p?q HTTP/1.1" "curl/7.46.0" ECDHE TLSv1.2 arn:aws:x"#,
        "ALB access log",
        &["192.168.131.39 2018-07-02T22:23:00.186641Z 8443 GET /p?q"],
    );
    check(
        "#Version: 1.0\n#Fields: date time x-edge-location c-ip cs-method cs(Host) cs-uri-stem\n2019-12-04\t21:02:31\tLAX1\t192.0.2.100\tGET\td111.cloudfront.net\t/index.html\nshort\n",
        "CloudFront access log",
        &[
            "192.0.2.100 2019-12-04T21:02:31Z - GET /index.html",
            "4: the line has other columns than the heading",
        ],
    );
}

#[test]
fn flow_logs_are_known_with_and_without_a_heading() {
    let line = "2 123456789010 eni-1235b8ca 203.0.113.12 172.31.9.69 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK";
    let want = "203.0.113.12 2014-12-14T04:06:50Z 3389 - -";
    check(line, "VPC flow log", &[want]);
    check(
        &format!(
            "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status\n{line}"
        ),
        "VPC flow log",
        &[want],
    );
    check(
        "srcaddr dstport protocol\n203.0.113.12 443 17\n203.0.113.13 0 1\n",
        "VPC flow log",
        &["203.0.113.12 - 443 - -", "203.0.113.13 - - - -"],
    );
    check(
        &format!(
            "{line}\n2 123456789010 eni-1235b8ca - - - - - - - 1431280876 1431280934 - NODATA"
        ),
        "VPC flow log",
        &[want, "- 2015-05-10T18:01:16Z - - -"],
    );
}

#[test]
fn objects_of_many_servers_are_known() {
    for (line, want) in [
        (
            r#"{"requestId":"x","ip":"192.0.2.1","requestTime":"09/Apr/2015:12:34:56 +0000","httpMethod":"GET"}"#,
            "192.0.2.1 2015-04-09T12:34:56Z - GET -",
        ),
        (
            r#"{"level":"info","ts":1585597114.7687502,"request":{"remote_ip":"192.0.2.1","remote_port":"1","method":"GET","uri":"/a"},"status":200}"#,
            "192.0.2.1 2020-03-30T19:38:34.76875Z - GET /a",
        ),
        (
            r#"{"remote_addr":"2001:db8::1","time_iso8601":"2026-01-01T00:00:00+01:00","server_port":"443","request":"PUT /b HTTP/2.0"}"#,
            "2001:db8::1 2025-12-31T23:00:00Z 443 PUT /b",
        ),
        (
            r#"{"ClientAddr":"192.0.2.1:51234","StartUTC":"2026-01-01T00:00:00Z"}"#,
            "192.0.2.1 2026-01-01T00:00:00Z - - -",
        ),
        (
            r#"{"time":"2026-11-26T07:58:56.371Z","api":"api","source":"192.0.2.1","port":8080}"#,
            "192.0.2.1 2026-11-26T07:58:56.371Z 8080 - -",
        ),
    ] {
        check(line, "JSON lines", &[want]);
    }
    let (_, items) = one(
        r#"{"ip":"192.0.2.1","edge":{"from":"198.51.100.9"}}"#,
        Some("edge.from"),
    );
    assert_eq!(items, ["198.51.100.9 - - - -"]);
}

#[test]
fn api_gateways_forms_are_known() {
    check(
        "192.0.2.1,-,-,09/Apr/2015:12:34:56 +0000,GET,/pets,HTTP/1.1,200,5,id",
        "API Gateway CSV log",
        &["192.0.2.1 2015-04-09T12:34:56Z - GET /pets"],
    );
    check(
        "<request id=\"1\"> <ip>192.0.2.1</ip> <caller>-</caller> <requestTime>09/Apr/2015:12:34:56 +0000</requestTime> <httpMethod>GET</httpMethod> <resourcePath>/pets</resourcePath> </request>",
        "API Gateway XML log",
        &["192.0.2.1 2015-04-09T12:34:56Z - GET /pets"],
    );
}

#[test]
fn other_logs_need_the_place_of_the_source() {
    let text = "ALLOW tcp 192.0.2.1 -> 443\nnonsense\n";
    assert_eq!(detect(text), None);
    let (_, items) = one(text, Some("3"));
    assert_eq!(items, ["192.0.2.1 - - - -", "2: the line has fewer words"]);
    assert!("0".parse::<Field>().is_err());
}

#[test]
fn a_line_that_never_ends_is_one_line() {
    let mut text = "x".repeat(3 << 20);
    text += "\n192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1\n";
    let mut items = Vec::new();
    read(
        &mut text.as_bytes(),
        Some(&Format::Combined),
        None,
        |item| items.push(matches!(item, Item::Record(_))),
    )
    .unwrap();
    assert_eq!(items, [false, true]);
}
