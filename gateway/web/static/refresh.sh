#!/bin/sh
# Replaces the files of Swagger UI (Apache-2.0) by those of its newest version on npm.
set -eu
cd -- "$(dirname -- "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm pack --silent --pack-destination "$folder" swagger-ui-dist >/dev/null
tar -xzf "$folder"/swagger-ui-dist-*.tgz -C "$folder"
for name in swagger-ui-bundle.js swagger-ui.css; do
    # Without the lines that name source maps, which a browser would look for.
    sed -e 's|^//# sourceMappingURL=.*||' -e 's|/[*]# sourceMappingURL=.*[*]/||' "$folder/package/$name" | gzip -9n >"$name.gz"
done
cp "$folder/package/LICENSE" swagger-ui.LICENSE
cp "$folder/package/NOTICE" swagger-ui.NOTICE
cp "$folder/package/swagger-ui-bundle.js.LICENSE.txt" swagger-ui-bundle.js.LICENSE
sed -n 's/.*"version": "\(.*\)".*/Swagger UI \1/p' "$folder/package/package.json"
