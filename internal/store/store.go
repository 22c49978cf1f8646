package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

const (
	// schema is the version of what the values mean as a whole. A file of a later one is refused.
	schema = 1
	// lockTimeout is how long Open waits for another process to let go of the file; a daemon that is just stopping
	// does so in less.
	lockTimeout = 2 * time.Second
	sumLen      = 4 // bytes of CRC-32 (Castagnoli, big endian) over key and value, before each value
)

var (
	// ErrInUse means that another process has the file open.
	ErrInUse = errors.New("in use")
	// ErrCorrupt means that the file is not one of ours, or damaged.
	ErrCorrupt = errors.New("not a usable state file")
)

// Names inside the file. A file of ours has both buckets from its first transaction on.
var (
	metaBucket = []byte("weave")
	dataBucket = []byte("state")
	schemaKey  = []byte("schema")
)

// Store is an open state file.
type Store struct {
	path string
	db   *bbolt.DB
	file *os.File // db's

	changing sync.Mutex
	broken   error // a panic of db; nil as a rule
}

// Save is one change: Value replaces what Key had, nil deletes it.
type Save struct {
	Key   string
	Value []byte
}

// Open opens the state file at path, making it, and its directory, when they are missing. The file is checked as a
// whole, so that damage is found now and not when an address is needed. Errors say what to do about them.
func Open(path string) (*Store, error) {
	return open(path, lockTimeout)
}

func open(path string, timeout time.Duration) (*Store, error) {
	if err := prepareDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	_, statErr := os.Stat(path)
	fresh := errors.Is(statErr, fs.ErrNotExist)
	s := &Store{path: path}
	if err := s.openFile(timeout); err != nil {
		return nil, fmt.Errorf("store: %w", explain(path, err))
	}
	if err := s.prepare(fresh); err != nil {
		s.Close()
		return nil, fmt.Errorf("store: %w", explain(path, err))
	}
	return s, nil
}

// openFile opens the database.
func (s *Store) openFile(timeout time.Duration) error {
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout:      timeout,
			FreelistType: bbolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				s.file, err = os.OpenFile(name, flag, mode)
				return s.file, err
			},
		})
		return err
	})
	if err != nil && s.file != nil {
		s.letGo()
	}
	return err
}

// guard runs do. bbolt panics where a damaged page leads it astray, and a page beyond the end of a truncated file
// faults; here both are just a file that cannot be used.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return do()
}

// letGo closes the file where bbolt may not have: after a panic nobody does, and the mapping that stays behind would keep the
// lock (flock(2)).
func (s *Store) letGo() {
	_ = unix.Flock(int(s.file.Fd()), unix.LOCK_UN)
	s.file.Close()
}

// change runs a transaction that writes. After a panic, as where the list of free pages is damaged, bbolt may hold its
// locks for ever: the store then refuses all changes.
func (s *Store) change(do func(*bbolt.Tx) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.broken != nil {
		return s.broken
	}
	returned := false
	err := guard(func() error {
		err := s.db.Update(do)
		returned = true
		return err
	})
	if !returned {
		s.broken = err
	}
	return err
}

func (s *Store) prepare(fresh bool) error {
	if err := os.Chmod(s.path, 0o600); err != nil {
		return err
	}
	if err := s.checkAll(); err != nil {
		return err
	}
	err := s.change(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(dataBucket); err != nil {
			return err
		}
		return meta.Put(schemaKey, strconv.AppendInt(nil, schema, 10))
	})
	if err != nil || !fresh {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

// checkAll reads the whole file once.
func (s *Store) checkAll() error {
	return guard(func() error { return s.db.View(s.check) })
}

func (s *Store) check(tx *bbolt.Tx) error {
	if info, err := os.Stat(s.path); err != nil || info.Size() < tx.Size() {
		return errors.Join(err, fmt.Errorf("%w: cut short", ErrCorrupt))
	}
	meta, data := tx.Bucket(metaBucket), tx.Bucket(dataBucket)
	if meta == nil && data == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return fmt.Errorf("%w: it belongs to another program", ErrCorrupt)
		}
		return nil // new
	}
	if meta == nil || data == nil {
		return fmt.Errorf("%w: a part is missing", ErrCorrupt)
	}
	if err := checkSchema(meta.Get(schemaKey)); err != nil {
		return err
	}
	return data.ForEach(func(k, v []byte) error {
		_, err := unseal(k, v)
		return err
	})
}

func checkSchema(text []byte) error {
	n, err := strconv.Atoi(string(text))
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("%w: schema version %q", ErrCorrupt, text)
	case n > schema:
		return fmt.Errorf("written by a later version of weave (schema %d, this one knows %d): use that version, "+
			"or 'weave reset' to start afresh", n, schema)
	}
	return nil
}

// Get returns the value of key and whether there is one. The value is the caller's.
func (s *Store) Get(key string) (value []byte, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(dataBucket).Get([]byte(key))
		if v == nil {
			return nil
		}
		ok = true
		value, err = unseal([]byte(key), v)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("store: get %q: %w", key, explain(s.path, err))
	}
	return value, ok, nil
}

// List returns everything whose key begins with prefix, in the order of the keys. The values are the caller's.
func (s *Store) List(prefix string) ([]Save, error) {
	var found []Save
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(dataBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			value, err := unseal(k, v)
			if err != nil {
				return err
			}
			found = append(found, Save{Key: string(k), Value: value})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: list %q: %w", prefix, explain(s.path, err))
	}
	return found, nil
}

// Put sets the value of key.
func (s *Store) Put(key string, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	return s.Update([]Save{{Key: key, Value: value}})
}

// Delete removes key; it need not exist.
func (s *Store) Delete(key string) error {
	return s.Update([]Save{{Key: key}})
}

// Update makes all changes or, on an error, none. It returns when they are on the disk.
func (s *Store) Update(saves []Save) error {
	if len(saves) == 0 {
		return nil
	}
	err := s.change(func(tx *bbolt.Tx) error {
		b := tx.Bucket(dataBucket)
		for _, save := range saves {
			key := []byte(save.Key)
			if save.Value == nil {
				if err := b.Delete(key); err != nil {
					return fmt.Errorf("%q: %w", save.Key, err)
				}
				continue
			}
			if err := b.Put(key, seal(key, save.Value)); err != nil {
				return fmt.Errorf("%q: %w", save.Key, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: save: %w", explain(s.path, err))
	}
	return nil
}

// Path tells where the file is.
func (s *Store) Path() string { return s.path }

// Close releases the file. It waits for calls in flight.
func (s *Store) Close() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.broken != nil {
		s.letGo()
		return nil
	}
	return s.db.Close()
}

// seal puts the check sum before the value; bbolt has none of its own for data.
func seal(key, value []byte) []byte {
	out := make([]byte, sumLen, sumLen+len(value))
	binary.BigEndian.PutUint32(out, checksum(key, value))
	return append(out, value...)
}

// unseal returns a copy of the value.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < sumLen || binary.BigEndian.Uint32(sealed) != checksum(key, sealed[sumLen:]) {
		return nil, fmt.Errorf("%w: wrong check sum of %q", ErrCorrupt, key)
	}
	return append(make([]byte, 0, len(sealed)-sumLen), sealed[sumLen:]...), nil
}

func checksum(key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, table), table, value)
}

// explain turns bbolt's words into what the user can do.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("state file %s is %w by another weave: stop that one, or give this one its own "+
			"WEAVE_STATE_DIR", path, ErrInUse)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch),
		errors.Is(err, bolterrors.ErrChecksum):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s is %w; restore it from a backup, or move it away (or 'weave reset --force') to start "+
			"afresh under a new identity", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// prepareDir makes the directory for our eyes only. One that exists is left as it is, but others must not be able to
// put a file of theirs in the place of ours.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("state directory %s can be written by other users (mode %v): choose another, or chmod go-w",
			dir, info.Mode().Perm())
	}
	return nil
}

// syncDir makes a new file's name durable, not only its content.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
