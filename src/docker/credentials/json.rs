//! The file that `docker login` writes, and what a credential helper answers. Both belong to other programs and have
//! keys that are none of ours, so the few that matter are picked out.

use serde_json::Value;

/// Where the credentials for one registry are.
pub(super) enum Place {
    /// A helper has them: `docker-credential-NAME`.
    Helper(String),
    /// They are in the file, as base64 of `user:password`, with an identity token where the registry gave one.
    Here {
        /// Empty where only a token is kept.
        auth: String,
        /// A token in place of the password.
        identity_token: Option<String>,
    },
    /// Nowhere: the registry is asked without any.
    Nowhere,
}

/// What a helper knows.
pub(super) struct Answer {
    pub(super) username: String,
    pub(super) secret: String,
}

/// Finds a registry in the file. A helper of the registry's own comes first, then the common one, then the file itself.
pub(super) fn place(file: &[u8], registry: &str) -> Result<Place, serde_json::Error> {
    let file: Value = serde_json::from_slice(file)?;
    let helper = file["credHelpers"][registry].as_str().or_else(|| file["credsStore"].as_str());
    if let Some(helper) = helper.filter(|it| !it.is_empty()) {
        return Ok(Place::Helper(helper.to_owned()));
    }
    let Some(entry) = entry(&file["auths"], registry) else {
        return Ok(Place::Nowhere);
    };
    Ok(Place::Here {
        auth: entry["auth"].as_str().unwrap_or_default().to_owned(),
        identity_token: entry["identitytoken"].as_str().filter(|it| !it.is_empty()).map(str::to_owned),
    })
}

/// Older clients wrote a whole address where newer ones write the host.
fn entry<'a>(auths: &'a Value, registry: &str) -> Option<&'a Value> {
    let auths = auths.as_object()?;
    if let Some(entry) = auths.get(registry) {
        return Some(entry);
    }
    auths.iter().find(|(key, _)| host(key) == host(registry)).map(|(_, entry)| entry)
}

fn host(address: &str) -> &str {
    let address =
        address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    address.split('/').next().unwrap_or(address)
}

/// Reads what a helper printed.
pub(super) fn answer(printed: &[u8]) -> Option<Answer> {
    let printed: Value = serde_json::from_slice(printed).ok()?;
    Some(Answer {
        username: printed["Username"].as_str()?.to_owned(),
        secret: printed["Secret"].as_str()?.to_owned(),
    })
}
