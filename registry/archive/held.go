package archive

import (
	"errors"
	"fmt"
)

// Whoever makes an archive decides what is in it, and what is kept in mind of it until its end costs memory.
// These bound that to some hundred megabytes at the very worst. The images of an RKE2 release have about a thousand
// files, with names of eighty bytes, and the largest archives that were seen ten times as many.
const (
	// mostFiles is how many files and links an archive may have: some hundred bytes are kept of each.
	mostFiles = 100_000

	// mostNames is for all of their names together, and where links lead. A name in a tar file can
	// be a megabyte long.
	mostNames = 10 << 20

	// mostList is how long a manifest.json may be. One of ten thousand images with twenty layers each
	// is about that.
	mostList = 16 << 20

	// mostImages is how many names of images a manifest.json may have.
	mostImages = 50_000

	// mostLayers is for one image. Docker mounts no more than 127.
	mostLayers = 1000

	// mostDiffs is for all images together: what their configurations say that their layers are,
	// seventy bytes each. It is ten thousand images with twenty layers each.
	mostDiffs = 200_000

	// mostMade is for all manifests that are made, in bytes: what mostDiffs come to.
	mostMade = 64 << 20
)

// held is how much is kept in mind of an archive.
type held struct {
	files, names, diffs, made int
}

// file counts a file, or a link, by its names.
func (h *held) file(names ...string) error {
	h.files++
	for _, name := range names {
		h.names += len(name)
	}
	switch {
	case h.files > mostFiles:
		return fmt.Errorf("it has more than %d files, which no archive of images has", mostFiles)
	case h.names > mostNames:
		return fmt.Errorf("the names of its files are longer than %d MiB together, which those of no archive of images are", mostNames>>20)
	}
	return nil
}

// layers counts what a configuration has.
func (h *held) layers(n int) error {
	h.diffs += n
	switch {
	case n > mostLayers:
		return fmt.Errorf("it has the diff_ids of %d layers, and no image can have more than %d", n, mostLayers)
	case h.diffs > mostDiffs:
		return fmt.Errorf("the configurations in the archive have more than %d diff_ids together: split it", mostDiffs)
	}
	return nil
}

// manifest counts one that was made.
func (h *held) manifest(size int) error {
	if h.made += size; h.made > mostMade {
		return errors.New("the images in it have too many layers together: split the archive")
	}
	return nil
}
