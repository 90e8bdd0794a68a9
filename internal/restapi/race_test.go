//go:build race

package restapi

// raceDetector says that a pool forgets what is given back to it now and then.
const raceDetector = true
