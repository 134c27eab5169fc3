//! Opening the database, and making it where there is none.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use rustix::io::{Errno, retry_on_intr};

use super::{Store, StoreError, migrations};
use crate::Dirs;

/// How long to wait for another process's transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens the store, and makes it and its folders where there are none.
    pub fn open(dirs: &Dirs) -> Result<Self, StoreError> {
        dirs.prepare_state()?;
        create(&dirs.store())?;
        let store = Self::unopened(dirs);
        store.connect()?;
        Ok(store)
    }

    /// Opens the store that there is; makes no file if there is none.
    pub fn open_existing(dirs: &Dirs) -> Result<Option<Self>, StoreError> {
        let store = Self::open_later(dirs)?;
        store.as_ref().map(Self::connect).transpose()?;
        Ok(store)
    }

    /// The same, but opens the database only when it is needed, and tells only then if it can't be
    /// used: for who may find a [card](Self::card).
    pub fn open_later(dirs: &Dirs) -> Result<Option<Self>, StoreError> {
        let path = dirs.store();
        match path.symlink_metadata() {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { path, source }),
            Ok(_) => {}
        }
        dirs.check_state()?;
        Ok(Some(Self::unopened(dirs)))
    }

    fn unopened(dirs: &Dirs) -> Self {
        Self { connection: OnceCell::new(), dirs: dirs.clone() }
    }

    /// Opens the database, unless that has been done.
    pub fn connect(&self) -> Result<(), StoreError> {
        self.connection().map(drop)
    }

    pub(super) fn connection(&self) -> Result<&Connection, StoreError> {
        match self.connection.get() {
            Some(connection) => Ok(connection),
            None => {
                let connection = self.open_database()?;
                Ok(self.connection.get_or_init(|| connection))
            }
        }
    }

    fn open_database(&self) -> Result<Connection, StoreError> {
        let path = self.dirs.store();
        let opened = writable(&path).and_then(|connection| {
            if !migrations::is_current(&connection, &path)? {
                self.migrate(&connection)?;
            }
            Ok(connection)
        });
        let connection = match opened {
            Err(StoreError::Unlocated(err)) if needs_no_lock(&err) => frozen(&path),
            other => other,
        };
        connection.map_err(|err| err.at(&path))
    }

    /// Gives a new or an older database its shape, one process after the other.
    fn migrate(&self, connection: &Connection) -> Result<(), StoreError> {
        let path = self.dirs.store();
        let _alone = migration_lock(&path.with_extension("lock"))?;
        if migrations::is_current(connection, &path)? {
            return Ok(());
        }
        migrations::run(connection, || self.remove_cards())
    }
}

/// Makes an empty file that nobody else can read. It is made without being opened: to close it
/// would undo the locks that other threads of this process hold on it, see fcntl_locking(2).
fn create(path: &Path) -> Result<(), StoreError> {
    let mode = Mode::RUSR | Mode::WUSR;
    match mknodat(CWD, path, FileType::RegularFile, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
            Err(StoreError::ReadOnly { path: path.into() })
        }
        Err(errno) => Err(StoreError::Io { path: path.into(), source: errno.into() }),
    }
}

/// Opens the database for reading and writing; for reading only, where it can't be written.
fn writable(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Else whoever is alone would remove the log and its index, which the next one makes again:
    // for one who only looks that takes longer than to look.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A crash of the program loses nothing then, and a power cut no more than the last writes.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Whether the database could not be opened because its helper files can't be made, as on a
/// read-only disk.
fn needs_no_lock(err: &rusqlite::Error) -> bool {
    matches!(err.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Opens a database that nobody can change, and so without locks and helper files.
fn frozen(path: &Path) -> Result<Connection, StoreError> {
    let log = path.with_extension("db-wal");
    // What is only in the log would not be seen, and old records would pass for true ones.
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        let why = format!("{} holds records that were not carried over yet", log.display());
        return Err(StoreError::Unfinished { path: path.into(), why });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path), flags)?;
    if !migrations::is_current(&connection, path)? {
        return Err(StoreError::ReadOnly { path: path.into() });
    }
    Ok(connection)
}

/// The file as SQLite names it with a parameter; see <https://sqlite.org/uri.html>.
fn uri(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let escape = |&byte: &u8| match byte {
        _ if plain(byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let path: String = path.as_os_str().as_bytes().iter().map(escape).collect();
    format!("file:{path}?immutable=1")
}

fn migration_lock(path: &Path) -> Result<File, StoreError> {
    let open = || {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(file)
    };
    open().map_err(|source| StoreError::Io { path: path.into(), source })
}
