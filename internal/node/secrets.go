package node

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"weave/internal/api"
	"weave/internal/store"
	"weave/peer"
	"weave/peer/control"
)

// secrets are the passwords this peer accepts, for everybody who needs them: the
// control edge, the session loop, the mesh. Changing them cuts nothing: they are
// for handshakes to come.
type secrets struct {
	store     *store.Store
	transport *control.Transport
	mesh      *meshLoop
	sessions  *sessionLoop

	mu   sync.Mutex
	list []peer.Secret
}

// recallSecrets takes the passwords of the configuration, or, when the last run
// ended by a crash, those it had come to accept.
func recallSecrets(st *store.Store, cfg Config, crashed bool) ([]peer.Secret, error) {
	if kept, ok, err := st.Get(keySecrets); err != nil {
		return nil, err
	} else if crashed && ok && len(kept) > 0 && len(cfg.Passwords) > 0 {
		return peer.UnmarshalSecrets(kept)
	}
	var list []peer.Secret
	for _, p := range cfg.Passwords {
		s := peer.SecretOf(p)
		if slices.Contains(list, s) {
			continue
		}
		var err error
		if list, err = peer.AddSecret(list, s); err != nil {
			return nil, err
		}
	}
	return list, st.Put(keySecrets, peer.MarshalSecrets(list))
}

func psksOf(list []peer.Secret) [][32]byte {
	var out [][32]byte
	for _, s := range list {
		out = append(out, s.PSK)
	}
	return out
}

// change replaces the list: durable before visible.
func (s *secrets) change(ctx context.Context, next []peer.Secret) error {
	if err := s.store.Put(keySecrets, peer.MarshalSecrets(next)); err != nil {
		return err
	}
	s.list = next
	s.transport.SetPSKs(psksOf(next))
	s.sessions.accept(next)
	return s.mesh.submit(ctx, peer.Secrets{IDs: peer.IDsOf(next)})
}

// AddPassword implements api.Secrets.
func (s *secrets) AddPassword(ctx context.Context, password string) error {
	secret := peer.SecretOf(password)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return api.BadRequest("this peer was launched without a password, and so were those it is connected with:" +
			" stop them all and launch them with one")
	}
	next, err := peer.AddSecret(s.list, secret)
	if err != nil {
		return api.BadRequest(err.Error())
	}
	return s.change(ctx, next)
}

// RetirePassword implements api.Secrets.
func (s *secrets) RetirePassword(ctx context.Context, which string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := peer.RetireSecret(s.list, s.find(which))
	if err != nil {
		return api.BadRequest(err.Error())
	}
	return s.change(ctx, next)
}

// find takes a password, or an ID as Passwords shows it.
func (s *secrets) find(which string) peer.SecretID {
	if n, err := strconv.ParseUint(which, 16, 64); err == nil && len(which) == 16 {
		for _, have := range s.list {
			if have.ID == peer.SecretID(n) {
				return have.ID
			}
		}
	}
	return peer.SecretOf(which).ID
}

// Passwords implements api.Secrets.
func (s *secrets) Passwords() []api.Password {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []api.Password
	for _, have := range s.list {
		p := api.Password{ID: have.ID.String()}
		if v := s.mesh.view.Load(); v != nil {
			p.Peers = len(v.Peers)
			for _, other := range v.Peers {
				if other.Name == v.Self.Name || slices.Contains(other.Secrets, have.ID) {
					p.Accepted++
				}
			}
		}
		out = append(out, p)
	}
	return out
}
