package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/etcd"
)

// authority makes certificates for tests.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", nil)
	return a
}

// issue writes name.pem and name.key. Without a parent it signs itself.
func (a *authority) issue(t *testing.T, name string, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, IsCA: parent == nil, BasicConstraintsValid: true,
	}
	signer, signKey := tpl, key
	if parent != nil {
		signer, signKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, signer, &key.PublicKey, signKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		a.file(name + ".pem"): {Type: "CERTIFICATE", Bytes: der}, a.file(name + ".key"): {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestTLSWithClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	ca.issue(t, "server", ca)
	ca.issue(t, "client", ca)
	nd := &node{name: "s", client: freeAddress(t), peer: freeAddress(t), dir: filepath.Join(t.TempDir(), "s")}
	nd.cluster = "s=http://" + nd.peer
	nd.extra = []string{
		"--listen-client-urls", "https://" + nd.client, "--advertise-client-urls", "https://" + nd.client,
		"--cert-file", ca.file("server.pem"), "--key-file", ca.file("server.key"), "--trusted-ca-file", ca.file("ca.pem"), "--client-cert-auth",
	}
	nd.start(t)
	t.Cleanup(func() { nd.stop(t) })
	load := func(files etcd.TLS) error {
		s, err := etcd.New(etcd.Options{Endpoints: []string{nd.client}, Protocol: "https", TLS: files, BasePath: "/service/demo"})
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err = s.Load(ctx)
		return err
	}
	good := etcd.TLS{CAFile: ca.file("ca.pem"), CertFile: ca.file("client.pem"), KeyFile: ca.file("client.key")}
	eventually(t, "a client with a certificate is served", func() (bool, string) {
		err := load(good)
		return err == nil, fmt.Sprint(err)
	})
	if err := load(etcd.TLS{CAFile: good.CAFile}); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("without a certificate: got %v", err)
	}
	stranger := newAuthority(t)
	if err := load(etcd.TLS{CAFile: stranger.file("ca.pem"), CertFile: good.CertFile, KeyFile: good.KeyFile}); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("with another authority: got %v", err)
	}
	if err := load(etcd.TLS{CAFile: "/nonexistent"}); err == nil || !strings.Contains(err.Error(), "certificate authority") {
		t.Errorf("with a missing file: got %v", err)
	}
}

func TestUsersAndPasswords(t *testing.T) {
	nd := startCluster(t, 1)[0]
	enableUsers(t, nd)
	open := func(user, password string) *etcd.Store {
		s, err := etcd.New(etcd.Options{Endpoints: []string{nd.client}, Username: user, Password: password, BasePath: "/service/demo"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, s := range map[string]*etcd.Store{"wrong password": open("pgha", "wrong"), "no user": open("", "")} {
		if _, err := s.Load(ctx); !errors.Is(err, dcs.ErrAuth) {
			t.Errorf("%s: load: got %v, want ErrAuth", name, err)
		}
		if _, err := s.Apply(ctx, dcs.PutConfig([]byte("{}"))); !errors.Is(err, dcs.ErrAuth) {
			t.Errorf("%s: apply: got %v, want ErrAuth", name, err)
		}
	}
	s := open("pgha", "secret")
	updates := s.Watch(ctx)
	if u := <-updates; u.Err != nil {
		t.Fatalf("watch: %v", u.Err)
	}
	g, err := s.Grant(ctx, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.KeepAlive(ctx, g.ID); err != nil {
		t.Errorf("keep-alive: %v", err)
	}
	if _, err := s.Apply(ctx, dcs.PutMember("a", g.ID, []byte("{}"))); err != nil {
		t.Errorf("apply: %v", err)
	}
	if u := <-updates; len(u.Snapshot.KVs) != 1 {
		t.Errorf("watch: got %+v", u)
	}
	// Somebody else's key hangs on a lease, so this user may not list leases: the other way must do.
	rootLease(t, nd)
	if gone, err := s.LeaseGone(ctx, g.ID); gone || err != nil {
		t.Errorf("living lease: got %v, %v", gone, err)
	}
	if err := s.Revoke(ctx, g.ID); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.LeaseGone(ctx, g.ID); !gone || err != nil {
		t.Errorf("revoked lease: got %v, %v", gone, err)
	}
	// A restart makes every token worthless.
	nd.stop(t)
	nd.start(t)
	eventually(t, "the user is logged in again", func() (bool, string) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := s.Load(ctx)
		return err == nil, fmt.Sprint(err)
	})
}

// enableUsers makes root, and pgha with rights on one prefix.
func enableUsers(t *testing.T, nd *node) {
	t.Helper()
	ctx, auth := t.Context(), pb.NewAuthClient(nd.conn(t))
	steps := []func() error{
		func() error {
			_, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "root"})
			return err
		},
		func() error { _, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"}); return err },
		func() error {
			_, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			return err
		},
		func() error {
			_, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "pgha", Password: "secret"})
			return err
		},
		func() error { _, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "pgha"}); return err },
		func() error {
			_, err := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "pgha", Perm: &authpb.Permission{
				PermType: authpb.READWRITE, Key: []byte("/service/demo/"), RangeEnd: []byte("/service/demo0"),
			}})
			return err
		},
		func() error {
			_, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "pgha", Role: "pgha"})
			return err
		},
		func() error { _, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{}); return err },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// rootLease hangs a key that pgha may not read on a lease.
func rootLease(t *testing.T, nd *node) {
	t.Helper()
	s, err := etcd.New(etcd.Options{Endpoints: []string{nd.client}, Username: "root", Password: "root", BasePath: "/other"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	g, err := s.Grant(t.Context(), 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), dcs.PutMember("x", g.ID, []byte("{}"))); err != nil {
		t.Fatal(err)
	}
}
