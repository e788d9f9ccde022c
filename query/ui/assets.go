package ui

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/route"
)

//go:embed assets
var assetFiles embed.FS

// assets are the scripts and styles of the pages.
type assets struct {
	files map[string]asset
	// version names their contents: browsers keep what they got under it for ever.
	version string
}

type asset struct {
	contentType string
	body        []byte
}

func readAssets() (*assets, error) {
	kept := &assets{files: map[string]asset{}}
	sum := sha256.New()
	err := fs.WalkDir(assetFiles, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := assetFiles.ReadFile(name)
		if err != nil {
			return err
		}
		_, _ = sum.Write(body)
		kept.files[path.Base(name)] = asset{contentType: mime.TypeByExtension(path.Ext(name)), body: body}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the pages' assets: %w", err)
	}
	kept.version = hex.EncodeToString(sum.Sum(nil)[:6])
	return kept, nil
}

// address is where an asset is found.
func (a *assets) address(name string) string { return "/ui/assets/" + a.version + "/" + name }

func (u *UI) assetRoute() route.Route {
	return route.Route{
		Method: http.MethodGet, Path: "/ui/assets/:version/:name", Side: route.Query, API: API, Access: route.Anyone,
		Summary: "Give a script or style of the pages",
		Params: []route.Param{
			{Name: "version", MaxLength: 40, Description: "Version of the assets."}, {Name: "name", MaxLength: 40, Description: "Name of the file."},
		},
		Answers: []route.Answer{
			{Status: 200, Body: "", ContentType: "text/css", Description: "The file."},
			{Status: 404, Body: "", ContentType: "text/html", Description: "There is no such file."},
		},
		Handler: func(c *gin.Context) {
			file, ok := u.assets.files[c.Param("name")]
			if !ok {
				route.Refuse(c, route.Errorf(http.StatusNotFound, "there is no such file"))
				return
			}
			if c.Param("version") == u.assets.version {
				c.Header("Cache-Control", "public, max-age=31536000, immutable")
			}
			c.Header("Content-Length", strconv.Itoa(len(file.body)))
			c.Data(http.StatusOK, file.contentType, file.body)
		},
	}
}
