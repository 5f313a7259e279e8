//! The chart tier: lint, rendered objects against the schemas of the API server, values that must be
//! refused.
//!
//! Values to render with are `charts/kurier/ci/*.yaml`; values to refuse are
//! `charts/kurier/ci/reject/*.yaml`, whose first line is a comment with words of the refusal. The
//! definitions in `crds/` and the objects in `deploy/` are checked as well, those of our own kinds by the
//! API server in the cluster tier.

use std::{
    fs,
    path::{Display, Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::{budget::Budget, schema};
use crate::{command, paths, tools::go};

/// Kinds that the API server learns from our own definitions.
const OWN_KINDS: &str = "MailCredential,MailRelay,MailRoute";

pub(super) fn run(budget: &mut Budget) -> Result<()> {
    let chart = Chart {
        folder: paths::workspace().join("charts/kurier"),
        schemas: schema::write()?,
    };
    budget.run(chart.helm()?.arg("lint").arg("--strict").arg(&chart.folder))?;
    budget.tally.passed += 1;

    let values = yaml_files(&chart.folder.join("ci"))?;
    println!("-- rendered with the default values");
    chart.conforms(&chart.render(None)?)?;
    budget.tally.passed += 1;
    for file in &values {
        println!("-- rendered with {}", name(file));
        chart.conforms(&chart.render(Some(file))?)?;
        budget.tally.passed += 1;
    }
    for file in yaml_files(&chart.folder.join("ci/reject"))? {
        println!("-- refused: {}", name(&file));
        chart.refuses(&file)?;
        budget.tally.passed += 1;
    }
    for folder in ["crds", "deploy"] {
        for file in yaml_files(&paths::workspace().join(folder))? {
            println!("-- {}", name(&file));
            chart.conforms(&fs::read_to_string(&file)?)?;
            budget.tally.passed += 1;
        }
    }
    Ok(())
}

struct Chart {
    folder: PathBuf,
    schemas: String,
}

impl Chart {
    fn render(&self, values: Option<&Path>) -> Result<String> {
        command::capture(&mut self.template(values)?)
    }

    fn refuses(&self, values: &Path) -> Result<()> {
        let first = fs::read_to_string(values)?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let words = first
            .strip_prefix("# ")
            .context("the first line is no comment")?;
        match command::capture(&mut self.template(Some(values))?) {
            Ok(_) => bail!("{} is not refused", values.display()),
            Err(error) => {
                let said = error.to_string();
                ensure!(
                    said.contains(words),
                    "{}: not '{words}' but: {said}",
                    values.display()
                );
                Ok(())
            }
        }
    }

    fn template(&self, values: Option<&Path>) -> Result<Command> {
        let mut helm = self.helm()?;
        helm.args(["template", "kurier", "--namespace", "kurier-system"])
            .arg(&self.folder);
        if let Some(values) = values {
            helm.arg("--values").arg(values);
        }
        Ok(helm)
    }

    fn helm(&self) -> Result<Command> {
        go::ensure("helm")?;
        let mut helm = Command::new(go::program("helm")?);
        // Nothing of the user's own configuration, plug-ins or repositories.
        let home = paths::target()?.join("helm");
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(variable, &home);
        }
        Ok(helm)
    }

    fn conforms(&self, objects: &str) -> Result<()> {
        go::ensure("kubeconform")?;
        let folder = paths::target()?.join("rendered");
        fs::create_dir_all(&folder)?;
        let file = folder.join("objects.yaml");
        fs::write(&file, objects)?;
        let mut check = Command::new(go::program("kubeconform")?);
        check
            .args([
                "-strict",
                "-summary",
                "-skip",
                OWN_KINDS,
                "-schema-location",
                &self.schemas,
            ])
            .arg(&file)
            .stderr(Stdio::inherit());
        let said = check.output().context("cannot start kubeconform")?;
        ensure!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stdout)
        );
        Ok(())
    }
}

fn name(file: &Path) -> Display<'_> {
    file.strip_prefix(paths::workspace())
        .unwrap_or(file)
        .display()
}

/// At least one, so that a folder that was moved does not pass.
fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "no *.yaml in {}", folder.display());
    Ok(files)
}
