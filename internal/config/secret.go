package config

import (
	"fmt"
	"io"
	"strconv"
)

// hidden is what every formatter shows of a secret.
const hidden = "<secret>"

// Secret is a text that must not reach a log, an API answer or a dump. Every way to print it
// gives "<secret>"; only Reveal gives the text. The text sits behind a pointer, because fmt
// prints unexported fields of other structs without asking their methods.
type Secret struct {
	text *string
}

// NewSecret hides a text.
func NewSecret(text string) Secret {
	return Secret{text: &text}
}

// Reveal gives the text, for a connection or a password file.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet says whether there is a text that is not empty.
func (s Secret) IsSet() bool { return s.Reveal() != "" }

// Equal compares the texts.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String hides the text.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return hidden
}

// Format hides the text from every verb of fmt.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		_, _ = io.WriteString(f, strconv.Quote(s.String()))
		return
	}
	_, _ = io.WriteString(f, s.String())
}

// MarshalText hides the text from JSON, XML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML hides the text.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
