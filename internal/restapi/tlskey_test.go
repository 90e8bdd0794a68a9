package restapi

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The keys are encrypted by openssl itself, in the forms that its versions have written.
func TestEncryptedKeysAreRead(t *testing.T) {
	ca := newAuthority(t, "ca")
	certFile, keyFile := ca.issue(t, "server", 5)
	for name, args := range map[string][]string{
		"aes-256 sha256": {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"},
		"aes-128 sha1":   {"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"},
		"aes-192 sha512": {"pkcs8", "-topk8", "-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512"},
		"traditional":    {"ec", "-aes256"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "enc.key")
			args = append(args, "-in", keyFile, "-out", out, "-passout", "pass:geheim")
			if msg, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
				t.Fatalf("openssl: %v: %s", err, msg)
			}
			if _, err := LoadKeyPair(certFile, out, "geheim"); err != nil {
				t.Errorf("right password: %v", err)
			}
			for _, password := range []string{"", "falsch"} {
				if _, err := LoadKeyPair(certFile, out, password); err == nil {
					t.Errorf("password %q: accepted", password)
				}
			}
		})
	}
}

func TestKeyMayStandInTheCertificateFile(t *testing.T) {
	ca := newAuthority(t, "ca")
	certFile, keyFile := ca.issue(t, "server", 5)
	cert, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(both, append(cert, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyPair(both, "", ""); err != nil {
		t.Error(err)
	}
}

func TestCipherListsAreTranslated(t *testing.T) {
	got := cipherSuites("ECDHE-RSA-AES128-GCM-SHA256:HIGH:!aNULL:ECDHE-ECDSA-CHACHA20-POLY1305:TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")
	want := []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	}
	if len(got) != len(want) {
		t.Fatalf("got %x, want %x", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("suite %d: got %x, want %x", i, got[i], want[i])
		}
	}
}

func FuzzEncryptedKey(f *testing.F) {
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = decryptPKCS8(data, "x")
		_, _ = decryptKey(data, "x")
	})
}
