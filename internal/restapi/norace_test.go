//go:build !race

package restapi

const raceDetector = false
