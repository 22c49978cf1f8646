package node

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"weave/internal/store"
	"weave/peer"
)

// Keys of the state file. What the mesh asks to save stands under meshPrefix.
const (
	keySeed          = "identity/seed" // 32 bytes
	keyName          = "identity/name" // six bytes
	keySecrets       = "secrets"       // see peer.MarshalSecrets
	keySlot          = "slot"          // a digit, see interfaces
	keyFast          = "fastdp"        // who is on the kernel path, see peer.FastAdopt
	keyMTU           = "mtu"           // decimal: what --mtu auto came to
	keyRunning       = "running"       // there while the daemon runs: found at a start, the last one crashed
	keyLaunchPeers   = "launch/peers"  // the peers that launch was given, one a line
	meshPrefix       = "mesh/"
	attachmentPrefix = "attachment/"
)

// memory is what the state file said at start.
type memory struct {
	identity peer.Identity
	name     peer.Name
	mesh     peer.Saved
	crashed  bool
	launched []string // the peers of the last launch
	secrets  []peer.Secret
}

// recall reads the state file, and makes the identity where there is none.
func recall(st *store.Store, cfg Config) (memory, error) {
	var m memory
	var err error
	if m.identity, err = identity(st); err != nil {
		return m, err
	}
	if m.name, err = name(st, cfg.Name, m.identity); err != nil {
		return m, err
	}
	saves, err := st.List(meshPrefix)
	if err != nil {
		return m, err
	}
	for _, s := range saves {
		if err := m.mesh.Restore(strings.TrimPrefix(s.Key, meshPrefix), s.Value); err != nil {
			cfg.Log.Warn("part of the state is unreadable and ignored", "err", err)
		}
	}
	if _, m.crashed, err = st.Get(keyRunning); err != nil {
		return m, err
	}
	if m.secrets, err = recallSecrets(st, cfg, m.crashed); err != nil {
		return m, err
	}
	peers, _, err := st.Get(keyLaunchPeers)
	if len(peers) > 0 {
		m.launched = strings.Split(string(peers), "\n")
	}
	return m, err
}

func identity(st *store.Store) (peer.Identity, error) {
	seed, ok, err := st.Get(keySeed)
	if err != nil {
		return peer.Identity{}, err
	}
	if ok && len(seed) != 32 {
		return peer.Identity{}, fmt.Errorf("the key in %s is damaged: restore the file, or 'weave reset' to start anew", st.Path())
	}
	if ok {
		return peer.IdentityFromSeed([32]byte(seed)), nil
	}
	id, err := peer.NewIdentity(rand.Reader)
	if err != nil {
		return id, err
	}
	made := id.Seed()
	return id, st.Put(keySeed, made[:])
}

// name is the given one, else the one of last time, else the key's own.
func name(st *store.Store, given string, id peer.Identity) (peer.Name, error) {
	kept, ok, err := st.Get(keyName)
	if err != nil {
		return peer.Name{}, err
	}
	var n peer.Name
	switch {
	case given != "":
		if n, err = peer.ParseName(given); err != nil {
			return n, err
		}
	case ok && len(kept) == len(n):
		return peer.Name(kept), nil
	default:
		n = peer.NameFromKey(id.PublicKey())
	}
	return n, st.Put(keyName, n[:])
}

// targets decides what to dial at first: what launch was given, but after a
// crash the list as it was last changed.
func (m memory) targets(cfg Config) []string {
	switch {
	case cfg.Resume:
		return m.mesh.Targets
	case m.crashed && slices.Equal(m.launched, cfg.Peers):
		return m.mesh.Targets
	}
	return cfg.Peers
}

// begin notes that the daemon runs.
func begin(st *store.Store, cfg Config) error {
	return st.Update([]store.Save{
		{Key: keyRunning, Value: []byte(cfg.Instance)},
		{Key: keyLaunchPeers, Value: []byte(strings.Join(cfg.Peers, "\n"))},
	})
}

// end notes that it ended in order, not by a crash or a fatal error.
func end(st *store.Store) error {
	return st.Delete(keyRunning)
}
