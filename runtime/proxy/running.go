package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"

	"weave/runtime"
)

// inspected is what we know of a container that is there.
type inspected struct {
	ID     string `json:"Id"`
	Path   string
	Config struct {
		Env    []string
		Labels map[string]string
	}
	HostConfig struct{ NetworkMode string }
}

func (c inspected) shimmed() bool { return c.Path == runtime.ShimPath }

func (p *Proxy) look(ctx context.Context, version, ref string) (inspected, error) {
	var c inspected
	err := p.ask(ctx, http.MethodGet, version+"/containers/"+url.PathEscape(ref)+"/json", &c)
	return c, err
}

// start passes a start or restart on and answers when the container is attached. One that cannot be is killed: its
// program would wait, or run without the network that it was promised.
func (p *Proxy) start(w http.ResponseWriter, r *http.Request, version, ref string) {
	held := &holding{ResponseWriter: w}
	p.pass.ServeHTTP(held, r)
	if held.status/100 != 2 {
		held.release()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), attachTimeout)
	defer cancel()
	c, err := p.look(ctx, version, ref)
	if err == nil && c.ID != "" {
		err = p.cfg.Network.Attach(ctx, c.ID)
	}
	if err == nil || errors.Is(err, errNotFound) || !c.shimmed() {
		held.release()
		return
	}
	p.cfg.Log.Warn("a container cannot be attached and is killed", "id", c.ID, "err", err)
	if err := p.ask(ctx, http.MethodPost, version+"/containers/"+c.ID+"/kill", nil); err != nil {
		p.cfg.Log.Debug("a container cannot be killed", "id", c.ID, "err", err)
	}
	refuse(w, http.StatusInternalServerError, "weave: the container cannot be attached to the network: "+err.Error())
}

// holding keeps an answer without a body back until it is released; one with a body goes through.
type holding struct {
	http.ResponseWriter
	status int
	sent   bool
}

// WriteHeader implements http.ResponseWriter.
func (h *holding) WriteHeader(status int) {
	if status/100 == 1 {
		return
	}
	if h.status = status; status/100 != 2 {
		h.release()
	}
}

// Write implements http.ResponseWriter.
func (h *holding) Write(b []byte) (int, error) {
	if h.status == 0 {
		h.status = http.StatusOK
	}
	h.release()
	return h.ResponseWriter.Write(b)
}

// release sends what is known of the answer.
func (h *holding) release() {
	if !h.sent && h.status != 0 {
		h.sent = true
		h.ResponseWriter.WriteHeader(h.status)
	}
}

// exec runs a command behind the shim, in containers that have it.
func (p *Proxy) exec(w http.ResponseWriter, r *http.Request, version, ref string) {
	p.rewritten(w, r, func(ctx context.Context, body object) error {
		c, err := p.look(ctx, version, ref)
		if err != nil || !c.shimmed() {
			return errUnchanged
		}
		var cmd words
		if err := body.get("Cmd", &cmd); err != nil || len(cmd) == 0 || cmd[0] == runtime.ShimPath {
			return errUnchanged
		}
		return body.set("Cmd", append(words{runtime.ShimPath}, cmd...))
	})
}

// inspect shows the overlay's address in place of the engine's.
func (p *Proxy) inspect(w http.ResponseWriter, r *http.Request) {
	answer := &kept{header: http.Header{}}
	p.pass.ServeHTTP(answer, r)
	body := answer.body.Bytes()
	if answer.status == http.StatusOK {
		if changed, err := p.shown(r.Context(), body); err == nil {
			body = changed
		}
	}
	answer.header.Del("Content-Length")
	maps.Copy(w.Header(), answer.header)
	w.WriteHeader(answer.status)
	_, _ = w.Write(body)
}

// kept is an answer that is not sent yet.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (k *kept) Header() http.Header { return k.header }

// WriteHeader implements http.ResponseWriter.
func (k *kept) WriteHeader(status int) {
	if k.status == 0 && status/100 != 1 {
		k.status = status
	}
}

// Write implements http.ResponseWriter.
func (k *kept) Write(b []byte) (int, error) {
	k.WriteHeader(http.StatusOK)
	return k.body.Write(b)
}

// shown is an inspection with the address of an attached container.
func (p *Proxy) shown(ctx context.Context, text []byte) ([]byte, error) {
	var body, settings object
	var id string
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, err
	}
	if err := errors.Join(body.get("Id", &id), body.get("NetworkSettings", &settings)); err != nil || settings == nil {
		return nil, errors.Join(err, errUnchanged)
	}
	mac, addresses, err := p.cfg.Network.Interface(ctx, id)
	if err != nil || len(addresses) == 0 {
		return nil, errors.Join(err, errUnchanged)
	}
	first := addresses[0]
	err = errors.Join(settings.set("MacAddress", mac.String()), settings.set("IPAddress", first.Addr().String()),
		settings.set("IPPrefixLen", first.Bits()), body.set("NetworkSettings", settings))
	if err != nil {
		return nil, err
	}
	return json.Marshal(body)
}
