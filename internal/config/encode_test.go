package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	yaml "go.yaml.in/yaml/v3"
)

// sameSettings compares configurations without what differs between files by nature.
func sameSettings() cmp.Option {
	return cmp.Options{
		cmpopts.IgnoreUnexported(Config{}),
		cmpopts.IgnoreFields(Config{}, "Warnings", "Ignored"),
		cmpopts.EquateEmpty(),
	}
}

func TestWrittenConfigurationIsReadBackTheSame(t *testing.T) {
	for _, file := range configFiles(t, "testdata/good") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			first, err := Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := first.YAML()
			if err != nil {
				t.Fatal(err)
			}
			second, err := Parse("written", text, nil)
			if err != nil {
				t.Fatalf("the written form does not load:\n%v\n%s", err, text)
			}
			hide := cmp.Comparer(func(a, b Secret) bool { return a.IsSet() == b.IsSet() })
			if diff := cmp.Diff(first, second, sameSettings(), hide); diff != "" {
				t.Errorf("differs (-first +second):\n%s\n%s", diff, text)
			}
		})
	}
}

// dressed has secrets in every kind of place.
type dressed struct {
	Public  Secret
	Pointer *Secret
	List    []Secret
	Map     map[string]Secret
	hidden  Secret
}

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	s := NewSecret("hunter2")
	v := dressed{Public: s, Pointer: &s, List: []Secret{s}, Map: map[string]Secret{"a": s}, hidden: s}
	cfg := Default()
	cfg.RestAPI.Authentication = Credentials{Username: "admin", Password: s}
	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		printed = append(printed, fmt.Sprintf(verb, s), fmt.Sprintf(verb, v), fmt.Sprintf(verb, &v), fmt.Sprintf(verb, *cfg))
	}
	for _, value := range []any{s, v, cfg} {
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		printed = append(printed, string(asJSON), string(asYAML))
	}
	core, logs := observer.New(zapcore.DebugLevel)
	logger := zap.New(core)
	logger.Info("m", zap.Any("s", s), zap.Any("v", v), zap.Any("cfg", cfg), zap.Stringer("x", s), zap.Reflect("r", s),
		zap.Error(errors.New(s.String())))
	for _, entry := range logs.All() {
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		printed = append(printed, line.String())
	}
	for _, text := range printed {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") {
			t.Errorf("the secret is shown: %s", text)
		}
	}
	if got, want := fmt.Sprint(s), "<secret>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := fmt.Sprint(Secret{}); got != "" {
		t.Errorf("no secret prints as %q, want nothing", got)
	}
	if got := s.Reveal(); got != "hunter2" {
		t.Errorf("Reveal() = %q", got)
	}
}

func TestSecretsOfAFileAreNotInItsWrittenForm(t *testing.T) {
	c, err := Load("testdata/good/full.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"api-password", "key-password", "etcd-password", "super-password", "replication-password", "rewind-password"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%s is shown", secret)
		}
	}
}
