package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"weave/runtime"
)

// bodyLimit is how long a body may be that has to be read as a whole, in bytes.
const bodyLimit = 16 << 20

// object is a JSON object of which we know parts; the rest stays as it came.
type object map[string]json.RawMessage

// get reads a field; one that is missing or null leaves into alone.
func (o object) get(key string, into any) error {
	text, ok := o[key]
	if !ok || string(text) == "null" {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (o object) set(key string, value any) error {
	text, err := json.Marshal(value)
	o[key] = text
	return err
}

// words is a command: a list, or one string as old clients have it.
type words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *words) UnmarshalJSON(text []byte) error {
	var one *string
	if json.Unmarshal(text, &one) == nil {
		if *w = nil; one != nil {
			*w = words{*one}
		}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(w))
}

// create changes a container that is about to be made, if it is to join the network.
func (p *Proxy) create(w http.ResponseWriter, r *http.Request, version string) {
	p.rewritten(w, r, func(ctx context.Context, body object) error {
		return p.change(ctx, body, version, r.URL.Query().Get("name"))
	})
}

// rewritten reads a request's body, has it changed and passes the request on. A body that is no object goes on as it is:
// the engine says what is wrong with it.
func (p *Proxy) rewritten(w http.ResponseWriter, r *http.Request, change func(context.Context, object) error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	if err != nil {
		status := http.StatusBadRequest
		if _, big := errors.AsType[*http.MaxBytesError](err); big {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(w, status, "weave: read the request: "+err.Error())
		return
	}
	var body object
	if json.Unmarshal(text, &body) == nil && body != nil {
		err := change(r.Context(), body)
		if errors.Is(err, errUnchanged) {
			p.again(w, r, text)
			return
		}
		if err != nil {
			refuse(w, http.StatusBadRequest, "weave: "+err.Error())
			return
		}
		if text, err = json.Marshal(body); err != nil {
			refuse(w, http.StatusInternalServerError, "weave: "+err.Error())
			return
		}
	}
	p.again(w, r, text)
}

// errUnchanged says that a request is none of ours.
var errUnchanged = errors.New("unchanged")

// again passes a request on with a body that has been read.
func (p *Proxy) again(w http.ResponseWriter, r *http.Request, body []byte) {
	out := r.Clone(r.Context())
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	out.Header.Del("Content-Length")
	p.pass.ServeHTTP(w, out)
}

// refuse answers as the engine does: with a message in JSON.
func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// request is what we know of a request to create a container.
type request struct {
	image, mode      string
	hostname, domain string
	env              []string
	labels           map[string]string
	entrypoint, cmd  words
	hasEntrypoint    bool
	host             object // HostConfig
}

func parse(body object) (request, error) {
	q := request{host: object{}}
	_, q.hasEntrypoint = body["Entrypoint"]
	q.hasEntrypoint = q.hasEntrypoint && string(body["Entrypoint"]) != "null"
	err := errors.Join(
		body.get("Image", &q.image), body.get("Hostname", &q.hostname), body.get("Domainname", &q.domain), body.get("Env", &q.env),
		body.get("Labels", &q.labels), body.get("Entrypoint", &q.entrypoint), body.get("Cmd", &q.cmd), body.get("HostConfig", &q.host),
	)
	if err != nil {
		return q, err
	}
	return q, q.host.get("NetworkMode", &q.mode)
}

// plainModes are the network modes of containers that join without asking.
var plainModes = []string{"", "default", "bridge", "none"}

// wanted tells whether the container is to join. In a network that its user made it does so only when it asks.
func (p *Proxy) wanted(q request) (bool, error) {
	c := runtime.Container{Name: q.image, Env: q.env, Labels: q.labels, NetworkMode: q.mode, Entrypoint: q.entrypoint}
	if c.Shares() {
		return false, nil
	}
	wish, err := runtime.WishOf(c, !p.cfg.NoDefaultAllocation && slices.Contains(plainModes, q.mode))
	return wish.Wanted, err
}

// change makes a request to create a container one for a container that joins the network.
func (p *Proxy) change(ctx context.Context, body object, version, name string) error {
	q, err := parse(body)
	if err != nil {
		return errUnchanged // the engine will say so
	}
	wanted, err := p.wanted(q)
	if err != nil {
		return err
	}
	if !wanted {
		return errUnchanged
	}
	if err := p.shim(ctx, body, &q, version); err != nil {
		return err
	}
	if err := p.names(body, &q, name); err != nil {
		return err
	}
	return body.set("HostConfig", q.host)
}

// shim puts the shim before what the container runs.
func (p *Proxy) shim(ctx context.Context, body object, q *request, version string) error {
	if len(q.entrypoint) == 0 || q.entrypoint[0] == "" {
		inherited, err := p.image(ctx, version, q.image)
		if err != nil {
			return err
		}
		if len(q.cmd) == 0 && !q.hasEntrypoint {
			q.cmd = inherited.Cmd
		}
		if q.entrypoint = nil; !q.hasEntrypoint { // [] and [""] take the image's away
			q.entrypoint = inherited.Entrypoint
		}
	}
	if len(q.entrypoint)+len(q.cmd) == 0 {
		return errUnchanged // the engine says that there is no command
	}
	if len(q.entrypoint) == 0 || q.entrypoint[0] != runtime.ShimPath {
		q.entrypoint = append(words{runtime.ShimPath}, q.entrypoint...)
	}
	if err := p.mount(q.host); err != nil {
		return err
	}
	return errors.Join(body.set("Entrypoint", q.entrypoint), body.set("Cmd", nonNil(q.cmd)))
}

func nonNil(w words) words {
	if w == nil {
		return words{}
	}
	return w
}

// mount has the shim's directory mounted, in place of anything else there.
func (p *Proxy) mount(host object) error {
	var binds []string
	var mounts []object
	if err := errors.Join(host.get("Binds", &binds), host.get("Mounts", &mounts)); err != nil {
		return err
	}
	binds = slices.DeleteFunc(binds, func(b string) bool {
		parts := strings.Split(b, ":")
		return len(parts) > 1 && strings.TrimRight(parts[1], "/") == runtime.ShimDir
	})
	kept := slices.DeleteFunc(slices.Clone(mounts), func(m object) bool {
		var target string
		return m.get("Target", &target) == nil && strings.TrimRight(target, "/") == runtime.ShimDir
	})
	if len(kept) != len(mounts) {
		if err := host.set("Mounts", kept); err != nil {
			return err
		}
	}
	return host.set("Binds", append(binds, p.cfg.Shim+":"+runtime.ShimDir+":ro"))
}

// names gives the container a host name in the domain, and our name server.
func (p *Proxy) names(body object, q *request, name string) error {
	if !p.cfg.DNS.IsValid() {
		return nil
	}
	domain := strings.TrimSuffix(p.cfg.Naming.Domain, ".")
	if q.hostname == "" {
		hostname, ok := p.cfg.Naming.Hostname(name, q.labels)
		switch {
		case ok:
			q.hostname, q.domain = hostname, domain
			if err := errors.Join(body.set("Hostname", hostname), body.set("Domainname", domain)); err != nil {
				return err
			}
		case name != "":
			p.cfg.Log.Warn("a container gets no host name: with the domain it would be too long", "container", name)
		}
	}
	var servers, search []string
	if err := errors.Join(q.host.get("Dns", &servers), q.host.get("DnsSearch", &search)); err != nil {
		return err
	}
	if !slices.Contains(servers, p.cfg.DNS.String()) {
		servers = append(servers, p.cfg.DNS.String())
	}
	if len(search) == 0 {
		// Not ".", with which Weave Net had resolvers take the domain of the host name: Docker no longer puts it there.
		search = []string{domain}
	}
	return errors.Join(q.host.set("Dns", servers), q.host.set("DnsSearch", search))
}

// imageConfig is what a container inherits from its image.
type imageConfig struct {
	Entrypoint, Cmd words
}

// image asks the engine about an image. One that is not there is the engine's to refuse: the client then pulls it.
func (p *Proxy) image(ctx context.Context, version, name string) (imageConfig, error) {
	var found struct{ Config imageConfig }
	err := p.ask(ctx, http.MethodGet, version+"/images/"+escape(name)+"/json", &found)
	if errors.Is(err, errNotFound) {
		err = errUnchanged
	}
	return found.Config, err
}

// escape makes a name part of a path; slashes of an image's name stand.
func escape(name string) string { return strings.ReplaceAll(url.PathEscape(name), "%2F", "/") }

var errNotFound = errors.New("not found")

// ask makes a call of our own to the engine.
func (p *Proxy) ask(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return errNotFound
	case resp.StatusCode/100 != 2:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("the engine answers %s: %s", resp.Status, bytes.TrimSpace(text))
	case into == nil:
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, bodyLimit)).Decode(into)
}
