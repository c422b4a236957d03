#!/bin/sh
# Replaces the files of Swagger UI (Apache-2.0) and uPlot (MIT) by those of their newest versions on npm.
set -eu
cd -- "$(dirname -- "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fetch() { # NAME: its newest version is in $folder/NAME afterwards
    npm pack --silent --pack-destination "$folder" "$1" >/dev/null
    mkdir "$folder/$1"
    tar -xzf "$folder/$1"-[0-9]*.tgz -C "$folder/$1" --strip-components 1
    sed -n "s/^  \"version\": \"\(.*\)\".*/$1 \1/p" "$folder/$1/package.json"
}

pack() { # FILE: compressed, and without the lines that name source maps, which a browser would look for
    sed -e 's|^//# sourceMappingURL=.*||' -e 's|/[*]# sourceMappingURL=.*[*]/||' "$1" | gzip -9n >"$(basename "$1").gz"
}

fetch swagger-ui-dist
pack "$folder/swagger-ui-dist/swagger-ui-bundle.js"
pack "$folder/swagger-ui-dist/swagger-ui.css"
cp "$folder/swagger-ui-dist/LICENSE" swagger-ui.LICENSE
cp "$folder/swagger-ui-dist/NOTICE" swagger-ui.NOTICE
cp "$folder/swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt" swagger-ui-bundle.js.LICENSE

fetch uplot
pack "$folder/uplot/dist/uPlot.iife.min.js"
pack "$folder/uplot/dist/uPlot.min.css"
cp "$folder/uplot/LICENSE" uPlot.LICENSE
