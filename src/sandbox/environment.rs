//! The environment of a command: the image's, less what steers loaders, proxies or carries credentials; then ours;
//! then what the caller gave by name.

/// Names that glibc's loader drops for setuid programs, because they redirect what a program loads or looks up.
/// Source: glibc, `sysdeps/generic/unsecvars.h`. Every `LD_…` is dropped besides.
const LOADER_NAMES: [&str; 13] = [
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_TRACE",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TMPDIR",
    "TZDIR",
];
/// Beginnings of names of services' credentials and addresses.
const CREDENTIAL_PREFIXES: [&str; 9] =
    ["AEGIS", "AWS_", "DATABASE_URL", "DOCKER_", "GITHUB_", "KUBE", "PG", "SSH_AUTH", "VAULT"];
/// Parts of names that say credential.
const CREDENTIAL_PARTS: [&str; 8] =
    ["TOKEN", "SECRET", "PASSW", "CREDENTIAL", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY"];
/// The program path where the image says none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the environment depends on besides the image.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The home directory inside.
    pub home: &'a str,
    /// The host name inside.
    pub hostname: &'a str,
    /// The terminal's kind, where the command has one.
    pub terminal: Option<&'a str>,
    /// What a program needs to know of this sandbox besides: its authorities, placeholders of credentials.
    pub variables: &'a [(String, String)],
}

/// The whole environment of a command, `NAME=value`, each name once, in a stable order.
pub fn environment(image: &[String], place: Place<'_>, given: &[(String, String)]) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    set(&mut variables, "PATH", PATH_DEFAULT);
    for (name, value) in image.iter().filter_map(|it| it.split_once('=')) {
        if !is_dropped(name) {
            set(&mut variables, name, value);
        }
    }
    set(&mut variables, "HOME", place.home);
    set(&mut variables, "HOSTNAME", place.hostname);
    set(&mut variables, "USER", "task");
    set(&mut variables, "LOGNAME", "task");
    if !variables.iter().any(|(name, _)| name == "LANG") {
        set(&mut variables, "LANG", "C.UTF-8");
    }
    if let Some(terminal) = place.terminal {
        set(&mut variables, "TERM", terminal);
    }
    for (name, value) in place.variables.iter().chain(given) {
        set(&mut variables, name, value);
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Names of the image's variables that not even init may see.
pub fn blanked(image: &[String]) -> Vec<String> {
    let names = image.iter().filter_map(|it| it.split_once('=')).map(|(name, _)| name);
    names.filter(|it| is_dropped(it)).map(str::to_owned).collect()
}

/// Whether a variable of an image is kept from the task.
fn is_dropped(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with("LD_")
        || LOADER_NAMES.contains(&upper.as_str())
        || upper.ends_with("_PROXY")
        || CREDENTIAL_PREFIXES.iter().any(|it| upper.starts_with(it))
        || CREDENTIAL_PARTS.iter().any(|it| upper.contains(it))
}

fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => variables.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(image: &[&str], given: &[(&str, &str)], expected_part: &str, present: bool) {
        let image: Vec<String> = image.iter().map(|it| (*it).to_owned()).collect();
        let given: Vec<(String, String)> =
            given.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let place = Place { home: "/run/home", hostname: "sandbox", terminal: None, variables: &[] };
        let made = environment(&image, place, &given);
        assert_eq!(made.iter().any(|it| it == expected_part), present, "{made:?}");
    }

    #[test]
    fn the_images_own_variables_stay() {
        check(&["JAVA_HOME=/opt/java"], &[], "JAVA_HOME=/opt/java", true);
    }

    #[test]
    fn loader_proxy_and_credential_names_are_dropped() {
        for variable in
            ["LD_PRELOAD=/x", "https_proxy=http://x", "NPM_TOKEN=x", "AWS_REGION=x", "DB_PASSWORD=x"]
        {
            check(&[variable], &[], variable, false);
        }
    }

    #[test]
    fn what_the_caller_names_is_given() {
        check(&[], &[("API_TOKEN", "x")], "API_TOKEN=x", true);
    }

    #[test]
    fn the_caller_wins_over_the_image_and_a_name_stands_once() {
        check(&["MODE=image"], &[("MODE", "caller")], "MODE=caller", true);
        check(&["MODE=image"], &[("MODE", "caller")], "MODE=image", false);
    }

    #[test]
    fn home_is_ours_whatever_the_image_says() {
        check(&["HOME=/root"], &[], "HOME=/run/home", true);
    }
}
