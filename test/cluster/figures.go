package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Median of a list that is not empty; the upper of the two in the middle.
func Median(all []time.Duration) time.Duration {
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// WriteJSON writes figures to a file, to standard output if its name is -, and nowhere if it is empty.
func WriteJSON(path string, figures any) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	data = append(data, '\n')
	if path == "-" {
		_, err = os.Stdout.Write(data)
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
