package docker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weave/runtime/docker"
)

// certify writes cert.pem and key.pem for server and client alike, and the same certificate as ca.pem.
func certify(t *testing.T, dir string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "engine"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, content := range map[string][]byte{"ca.pem": cert, "cert.pem": cert, "key.pem": secret} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(cert, secret)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pair, pool
}

func TestTLSOfTheEnvironment(t *testing.T) {
	ours, others := t.TempDir(), t.TempDir()
	pair, pool := certify(t, ours)
	certify(t, others)
	s := httptest.NewUnstartedServer(&wire{answer: always(200, `{"Id":"aa"}`)})
	s.Config.ErrorLog = quiet
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.StartTLS()
	defer s.Close()
	t.Setenv("DOCKER_HOST", strings.Replace(s.URL, "https://", "tcp://", 1))
	for _, c := range []struct {
		name, dir, verify string
		works             bool
	}{
		{"verified", ours, "1", true},
		{"not verified", ours, "", true},
		{"certificates of another network", others, "1", false},
		{"the client's certificate of another network", others, "", false},
		{"no TLS", "", "", false},
	} {
		t.Setenv("DOCKER_CERT_PATH", c.dir)
		t.Setenv("DOCKER_TLS_VERIFY", c.verify)
		e, err := docker.Open("engine", "")
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, err = e.Inspect(t.Context(), "x"); (err == nil) != c.works {
			t.Errorf("%s: %v, want that it works: %v", c.name, err, c.works)
		}
		e.Close()
	}
}
