//! `docs/conformance.md` must not lie: every file that it cites is there, and still refers to the
//! RFC.

use std::fs;
use std::path::Path;

#[test]
fn every_cited_file_refers_to_its_rfc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let mut failures = Vec::new();
    let mut citations = 0;
    for row in table
        .lines()
        .filter(|line| line.starts_with("| RFC ") && !line.starts_with("| RFC |"))
    {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, rfc, _, status, places, _] = columns[..] else {
            panic!("a row has RFC, subject, status and places: {row}");
        };
        let is_status = ["yes", "partly", "no"]
            .iter()
            .any(|word| status.starts_with(word));
        assert!(is_status, "a status is yes, partly or no: {row}");
        assert!(
            !status.starts_with("yes") || places.contains('`'),
            "yes needs a place: {row}"
        );
        for place in places.split('`').skip(1).step_by(2) {
            citations += 1;
            match fs::read_to_string(root.join(place)) {
                Err(error) => failures.push(format!("{place}: {error}")),
                Ok(text) if !refers(&text, rfc) => failures.push(format!("{place}: no {rfc}")),
                Ok(_) => {}
            }
        }
    }
    assert!(
        citations >= 20,
        "only {citations} citations: has the table changed its form?"
    );
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Every RFC that the code refers to has a row.
#[test]
fn every_rfc_of_the_code_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    let mut missing = Vec::new();
    each_file(&root.join("src"), &mut |path, text| {
        for (at, _) in text.match_indices("RFC ") {
            let number: String = text[at + 4..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            if !number.is_empty() && !table.contains(&format!("| RFC {number} ")) {
                missing.push(format!("RFC {number}, cited in {}", path.display()));
            }
        }
    });
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

fn refers(text: &str, rfc: &str) -> bool {
    text.match_indices(rfc).any(|(at, _)| {
        !text[at + rfc.len()..].starts_with(|character: char| character.is_ascii_digit())
    })
}

fn each_file(folder: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, visit);
        } else {
            visit(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
