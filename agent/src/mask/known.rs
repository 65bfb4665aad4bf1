//! What is known of names, options and forms that secrets have.

/// Names that stand for a secret wherever they occur in a name, without `-`, `_`, `.` and in small letters.
pub(super) const SECRET_PARTS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "privkey",
    "credential",
    "authkey",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "sharedkey",
    "sessionkey",
    "accountkey",
    "storagekey",
    "licensekey",
    "licencekey",
    "sshkey",
    "secretkey",
    "authorization",
    "bearer",
    "cookie",
    "dbpass",
    "userpass",
    "rootpass",
    "basicauth",
    "userauth",
    "requirepass",
    "sessid",
    "sessionid",
    "masterauth",
    "sharedaccess",
];

/// Names that stand for a secret as a whole or as one of the words that a name is made of.
pub(super) const SECRET_WORDS: &[&str] = &[
    "pass",
    "pwd",
    "pw",
    "key",
    "auth",
    "cred",
    "creds",
    "jwt",
    "otp",
    "pin",
    "salt",
    "signature",
    "sig",
    "psk",
    "sas",
    "pat",
    "passin",
    "passout",
    "dsn",
    "hmac",
    "sid",
    "storepass",
    "keypass",
];

/// Names whose last word is one of these point at where a secret lies.
pub(super) const PLACE_WORDS: &[&str] = &["file", "path", "dir", "directory", "files"];

/// Words between a name and its secret.
pub(super) const JOINTS: &[&str] = &["", "=", ":"];

/// Words that stand between a header and its secret.
pub(super) const SCHEMES: &[&str] = &["authorization", "cookie", "bearer", "basic"];

/// Beginnings of secrets that are known by their form.
pub(super) const SECRET_BEGINNINGS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "glptt-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "xapp-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "pk_live_",
    "AIza",
    "ya29.",
    "eyJ",
    "hvs.",
    "hvb.",
    "dop_v1_",
    "npm_",
    "pypi-",
    "SG.",
    "shpat_",
    "AKIA",
    "ASIA",
    "dckr_pat_",
    "lin_api_",
    "sq0",
    "whsec_",
    "-----BEGIN",
];

/// Programs whose one-letter options take a secret: in the same word, in the next, or either.
pub(super) const LETTERS: &[(&[&str], &str, Place)] = &[
    (&["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlshow", "mysqlcheck", "mysqlbinlog"], "-p", Place::Same),
    (&["mariadb", "mariadb-dump", "mariadb-admin", "mycli", "innobackupex", "xtrabackup"], "-p", Place::Same),
    (&["mysqlpump", "mysqlsh", "mariabackup", "mysqlslap", "mysql_upgrade", "percona-xtrabackup"], "-p", Place::Same),
    (&["7z", "7za", "7zr", "7zz", "rar", "unrar", "zip"], "-p", Place::Same),
    (&["rar", "unrar"], "-hp", Place::Same),
    (
        &["sshpass", "docker", "podman", "nerdctl", "mongo", "mongosh", "mongodump", "mongorestore", "mongoexport"],
        "-p",
        Place::Either,
    ),
    (&["mydumper", "myloader", "useradd", "usermod", "smbmap", "crackmapexec", "mongostat"], "-p", Place::Either),
    (&["http", "https", "xh", "xhs"], "-a", Place::Either),
    (&["xfreerdp", "xfreerdp3", "wfreerdp", "sdl-freerdp"], "/p:", Place::Same),
    (&["rdesktop", "az", "oc", "skopeo", "buildah", "helm", "cqlsh", "influx", "isql", "bcp"], "-p", Place::Either),
    (&["redis-cli", "keydb-cli", "valkey-cli", "ipmitool"], "-a", Place::Either),
    (
        &["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldappasswd", "net", "cqlsh"],
        "-w",
        Place::Either,
    ),
    (
        &["sqlcmd", "bcp", "tsql", "isql", "ipmitool", "mosquitto_pub", "mosquitto_sub", "unzip", "zip", "wpa_cli"],
        "-P",
        Place::Either,
    ),
    (SNMP, "-A", Place::Either),
    (SNMP, "-X", Place::Either),
    (SNMP, "-c", Place::Either),
    (&["openssl"], "-k", Place::Either),
    (&["openssl"], "-K", Place::Either),
    (&["plink", "pscp", "psftp", "putty"], "-pw", Place::Either),
];

const SNMP: &[&str] =
    &["snmpget", "snmpgetnext", "snmpwalk", "snmpset", "snmpbulkwalk", "snmpbulkget", "snmptable", "snmptrap"];

/// Programs that are told `user/password@database`.
pub(super) const ORACLE: &[&str] = &["sqlplus", "sqlldr", "exp", "imp", "expdp", "impdp", "rman", "sql", "sqlcl"];

/// Programs whose command `AUTH` takes a secret, and a user before it where they like.
pub(super) const REDIS: &[&str] = &["redis-cli", "keydb-cli", "valkey-cli"];

/// Addresses of which what lies behind is the secret.
pub(super) const SECRET_PATHS: &[&str] = &[
    "hooks.slack.com/services/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "api.telegram.org/bot",
    ".office.com/webhook",
    "/open-apis/bot/v2/hook/",
];

/// Options of any program that take a user and, behind a colon, a comma or a per cent sign, a password.
pub(super) const USER_OPTIONS: &[&str] = &["-u", "-U", "--user", "--proxy-user", "--username", "--auth"];

/// What parts a user from a password.
pub(super) const USER_ENDS: [char; 3] = [':', ',', '%'];

/// Where the secret of an option stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the same word.
    Same,
    /// There, or in the next.
    Either,
}
