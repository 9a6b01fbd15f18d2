# Sourced: cargo's tools that CI runs, prebuilt, in a venv of the cache and on the PATH.
MESHWORK_CACHE=${MESHWORK_CACHE:-$HOME/.cache/meshwork}
tools=$MESHWORK_CACHE/tools-$(sha256sum .ci/tools.txt | cut -c1-12)
if [ ! -f "$tools/.complete" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install -q --disable-pip-version-check -r .ci/tools.txt
  touch "$tools/.complete"
fi
export PATH=$tools/bin:$PATH
