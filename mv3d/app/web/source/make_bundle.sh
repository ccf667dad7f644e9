#!/bin/sh
# Makes ../viewer.bundle.js and ../three-LICENSE from viewer.mjs and the packages that package-lock.json pins by hash.
# Needs Node.js and npm. Run: mv3d/app/web/source/make_bundle.sh
set -eu
cd "$(dirname "$0")"
npm ci --silent --no-audit --no-fund
source_sha256=$(sha256sum viewer.mjs | cut -d' ' -f1)
version() { node -p "JSON.parse(require('fs').readFileSync('node_modules/$1/package.json')).version"; }
three=$(version three)
esbuild=$(version esbuild)
node_modules/.bin/esbuild viewer.mjs --bundle --minify --format=esm --charset=utf8 --legal-comments=none \
    --target=es2022 --outfile=../viewer.bundle.js \
    --banner:js="/* mv3d viewer, made of viewer.mjs (sha256 $source_sha256) and three.js $three by esbuild $esbuild. three.js:
$(cat node_modules/three/LICENSE) */"
cp node_modules/three/LICENSE ../three-LICENSE
rm -rf node_modules
sha256sum ../viewer.bundle.js
