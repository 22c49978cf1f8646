package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// DefaultEndpoint is where Docker listens unless it is told otherwise.
const DefaultEndpoint = "unix:///var/run/docker.sock"

// inspectors is how many containers List asks about at once, and how many idle connections are kept for it.
const inspectors = 8

// fromEnvironment is the endpoint that the docker command would use, with its TLS settings.
// See https://docs.docker.com/reference/cli/docker/#environment-variables.
func fromEnvironment() (string, *tls.Config, error) {
	endpoint := os.Getenv(client.EnvOverrideHost)
	if endpoint == "" {
		return DefaultEndpoint, nil, nil
	}
	dir := os.Getenv(client.EnvOverrideCertPath)
	if dir == "" || strings.HasPrefix(endpoint, "unix://") {
		return endpoint, nil, nil
	}
	conf, err := certificates(dir, os.Getenv(client.EnvTLSVerify) != "")
	if err != nil {
		return "", nil, fmt.Errorf("%s=%s: %w", client.EnvOverrideCertPath, dir, err)
	}
	return endpoint, conf, nil
}

// certificates reads the three files that the docker command reads from such a directory.
func certificates(dir string, verify bool) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{
		Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: !verify, // what the docker command does without DOCKER_TLS_VERIFY
	}
	if !verify {
		return conf, nil
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	return conf, nil
}

// checkEndpoint refuses what the client library would only stumble over at the first call.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return fmt.Errorf("docker endpoint %q: %w", endpoint, err)
	case u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1:
		return nil
	case u.Scheme == "tcp" && u.Port() != "":
		return nil
	}
	return fmt.Errorf("docker endpoint %q: give unix:///path/of/the.sock or tcp://host:port", endpoint)
}

// newTransport is what every client of one endpoint gets a copy of.
func newTransport(conf *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSClientConfig: conf,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        inspectors, MaxIdleConnsPerHost: inspectors, IdleConnTimeout: 30 * time.Second,
	}
}
