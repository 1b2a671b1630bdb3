# Template of the Homebrew formula. scripts/homebrew.sh fills in what stands between @ signs, from the archives of a release.
class Bipo < Formula
  desc "Steer a frozen large language model with one vector, learned from pairs of answers"
  homepage "@REPOSITORY@"
  version "@VERSION@"
  license "Apache-2.0"

  on_macos do
    on_arm do
      url "@REPOSITORY@/releases/download/v@VERSION@/bipo-v@VERSION@-aarch64-apple-darwin.tar.gz"
      sha256 "@SHA256:aarch64-apple-darwin@"
    end
    on_intel do
      url "@REPOSITORY@/releases/download/v@VERSION@/bipo-v@VERSION@-x86_64-apple-darwin.tar.gz"
      sha256 "@SHA256:x86_64-apple-darwin@"
    end
  end

  on_linux do
    on_arm do
      url "@REPOSITORY@/releases/download/v@VERSION@/bipo-v@VERSION@-aarch64-unknown-linux-gnu.tar.gz"
      sha256 "@SHA256:aarch64-unknown-linux-gnu@"
    end
    on_intel do
      url "@REPOSITORY@/releases/download/v@VERSION@/bipo-v@VERSION@-x86_64-unknown-linux-gnu.tar.gz"
      sha256 "@SHA256:x86_64-unknown-linux-gnu@"
    end
  end

  def install
    bin.install "bipo"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/bipo.bash" => "bipo"
    zsh_completion.install "completions/_bipo"
    fish_completion.install "completions/bipo.fish"
  end

  test do
    assert_equal "bipo #{version}", shell_output("#{bin}/bipo --version").strip
  end
end
