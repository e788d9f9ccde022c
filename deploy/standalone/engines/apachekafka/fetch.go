package apachekafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Version of Apache Kafka.
const Version = "4.1.0"

// project is all that Maven needs to know to collect the broker with everything it depends on.
const project = `<project>
	<modelVersion>4.0.0</modelVersion>
	<groupId>millrace</groupId><artifactId>kafka-broker</artifactId><version>1</version>
	<dependencies>
		<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + Version + `</version></dependency>
	</dependencies>
</project>
`

// Available is nil when Apache Kafka can be run here, and says what is missing otherwise.
func Available() error {
	var missing []error
	for program, purpose := range map[string]string{"java": "to run the brokers (17 or later)", "mvn": "to fetch their jars"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Errorf("%s is needed %s: %w", program, purpose, err))
		}
	}
	return errors.Join(missing...)
}

// jars returns the folder with the broker's jars in the user's cache, and fetches them when they are not there. Processes
// that want them at once wait for one another.
func jars(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	dir := filepath.Join(cache, "millrace", "kafka", Version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	libs := filepath.Join(dir, "libs")
	if _, err := os.Stat(libs); err == nil {
		return libs, nil
	}
	if err := collect(ctx, dir, libs); err != nil {
		return "", fmt.Errorf("fetch Apache Kafka %s: %w", Version, err)
	}
	return libs, nil
}

// collect lets Maven copy the jars, and gives the folder its name when it is complete.
func collect(ctx context.Context, dir, libs string) error {
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, []byte(project), 0o644); err != nil {
		return err
	}
	unfinished := libs + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--file", pom,
		"dependency:copy-dependencies", "-DoutputDirectory="+unfinished).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mvn: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(unfinished, libs)
}
