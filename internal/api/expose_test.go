package api

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"testing"
)

// fakeExposer keeps what it was asked for.
type fakeExposer struct {
	*fakeNode
	HostPrograms // never called here
	last         ExposeRequest
}

func (f *fakeExposer) Expose(_ context.Context, req ExposeRequest) (AttachReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = req
	list, err := prefixes(AttachRequest{Addresses: req.Addresses})
	return AttachReply{Addresses: list, Warnings: []string{"two\nlines"}}, errors.Join(f.fault, err)
}

func (f *fakeExposer) Hide(ctx context.Context, req ExposeRequest) (AttachReply, error) {
	reply, err := f.Expose(ctx, req)
	reply.Addresses = slices.DeleteFunc(reply.Addresses, func(p netip.Prefix) bool { return p.Addr().String() == "10.9.9.9" })
	return reply, err
}

func TestExpose(t *testing.T) {
	f := &fakeExposer{fakeNode: newFakeNode()}
	c, _ := serve(t, f.fakeNode, Backends{Reporter: f, Exposer: f})
	var warned []string
	c.Warn = func(text string) { warned = append(warned, text) }
	text, err := c.Expose(t.Context(), url.Values{"addr": {"10.2.1.1/24", "ip:10.3.1.1/16"}, "fqdn": {"host.weave.local"}, "without-masquerade": {"true"}})
	if err != nil || text != "10.2.1.1 10.3.1.1\n" {
		t.Errorf("%q %v", text, err)
	}
	if !slices.Equal(warned, []string{"two lines"}) {
		t.Errorf("warned of %q", warned)
	}
	if r := f.last; !r.WithoutMasquerade || len(r.Addresses) != 2 || !slices.Equal(r.Names, []string{"host.weave.local"}) {
		t.Errorf("%+v", r)
	}
	if text, err := c.Hide(t.Context(), url.Values{"addr": {"10.9.9.9/24"}}); err != nil || text != "\n" {
		t.Errorf("hiding what is not exposed: %q %v", text, err)
	}
	_, err = c.Expose(t.Context(), url.Values{"addr": {"10.2.1.1"}})
	wantStatus(t, err, 400, "invalid address")
	_, err = c.Expose(t.Context(), url.Values{})
	wantStatus(t, err, 400, NoAllocation) // none means one of the default subnet
}

// The request that Weave Net's script made.
func TestExposeOne(t *testing.T) {
	f := &fakeExposer{fakeNode: newFakeNode()}
	c, _ := serve(t, f.fakeNode, Backends{Reporter: f, Exposer: f})
	for path, plain := range map[string]bool{"/expose/10.2.1.1/24": false, "/expose/10.2.1.1/24?skipNAT=true": true, "/expose/10.2.1.1/24?skipNAT=1": true} {
		if text, err := c.post(t.Context(), path, nil); err != nil || text != "" {
			t.Errorf("%s: %q %v", path, text, err)
		}
		if r := f.last; r.WithoutMasquerade != plain || len(r.Addresses) != 1 || r.Addresses[0].Allocate || r.Addresses[0].Prefix.String() != "10.2.1.1/24" {
			t.Errorf("%s: %+v", path, r)
		}
	}
	_, err := c.post(t.Context(), "/expose/10.2.1.300/24", nil)
	wantStatus(t, err, 400, "unable to parse ip addr: ")
	_, err = c.post(t.Context(), "/expose/224.0.0.1/24", nil)
	wantStatus(t, err, 400, "unable to parse ip addr: ")
	_, err = c.post(t.Context(), "/expose/10.2.1.1/24?skipNAT=perhaps", nil)
	wantStatus(t, err, 400, "skipNAT")
	f.setFault(errors.New("no room"))
	_, err = c.post(t.Context(), "/expose/10.2.1.1/24", nil)
	wantStatus(t, err, 500, "unable to expose: no room")
}
