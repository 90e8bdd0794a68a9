package conf

import (
	"fmt"
	"strings"
)

// maxIdentifier is PostgreSQL's limit for names: NAMEDATALEN - 1 bytes.
const maxIdentifier = 63

// SlotName gives the name of the replication slot of a member (row H-107): lower case, "-" and
// "." become "_", anything else outside [a-z0-9_] becomes "u" and its code point in four decimal
// digits, and the whole is cut to 63. Two members can end up with one name: see SlotNames.
func SlotName(member string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(member) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case r == '-', r == '.':
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "u%04d", r)
		}
	}
	s := b.String()
	return s[:min(len(s), maxIdentifier)]
}

// SlotNames gives the slot of each member, and an error that names those which collide.
func SlotNames(members []string) (map[string]string, error) {
	out := make(map[string]string, len(members))
	owner := make(map[string]string, len(members))
	var clash []string
	for _, m := range members {
		slot := SlotName(m)
		if other, taken := owner[slot]; taken && other != m {
			clash = append(clash, fmt.Sprintf("%s and %s both map to slot %s", other, m, slot))
			continue
		}
		owner[slot], out[m] = m, slot
	}
	if clash != nil {
		return out, fmt.Errorf("slot names: %s", strings.Join(clash, "; "))
	}
	return out, nil
}

// ValidSlotName says whether PostgreSQL would take name for a slot.
func ValidSlotName(name string) bool {
	return name != "" && len(name) <= maxIdentifier && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
